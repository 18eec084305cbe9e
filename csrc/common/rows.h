// The general walk: any window over tensors of type T, a row of windows at a time.
//
// The rows of the input that a row of windows covers are cut into lines (axis.h), the method runs along
// them (lines.h), and what it gives for each position is put together to rows again. Where windows share
// rows their gradients are added up in the order of the windows, by the one thread that owns the rows.
#pragma once

#include "axis.h"
#include "lines.h"
#include "shares.h"

namespace adapool::ADAPOOL_ISA {

template <class T>
class Rows {
 public:
  typedef typename Computed<T>::S S;
  typedef void (*Run)(const Line<S>&);

  Rows(const Problem& problem, const Traits& traits, Run run_of)
      : p_(problem), traits_(traits), run_(run_of), shares_(problem, traits.scatters()) {
    block_ = p_.channels_last ? p_.channels : 1;
    rows_ = p_.kernel[0] * p_.kernel[1];
    values_ = rows_ * p_.kernel[2];
    map_axis_ = {p_.kernel[2], p_.stride[2], p_.padding[2], p_.out[2], p_.size[2], block_};
    mask_axis_ = {p_.kernel[2], p_.kernel[2], 0, p_.out[2], p_.out[2] * p_.kernel[2], block_};
    length_ = p_.out[2] * block_;
    row_ = p_.size[2] * block_;
    margin_ = (p_.kernel[2] - 1) / p_.stride[2] * block_;
    pitch_ = length_ + 2 * margin_ + 2 * kLanes;
    line_.length = length_;
    line_.count = static_cast<int>(values_);
    line_.gain = static_cast<S>(p_.gain);
    line_.rules = {p_.weight_grad, p_.drop, p_.huber, static_cast<S>(p_.delta)};
    own_rows_ = traits.scatters() && sizeof(T) != sizeof(S);
    if (own_rows_) owned_ = most_owned();
    // Measured with a Room that has no memory, then with one that has.
    lay_out();
    const int64_t bytes = taken_;
    memory_ = static_cast<char*>(__builtin_malloc(bytes + 64));
    __builtin_memset(memory_, 0, bytes + 64);
    taken_ = 0;
    lay_out();
    mark_border();
  }
  ~Rows() { __builtin_free(memory_); }
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;

  void units(int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t plane = unit / (shares_.blocks[0] * shares_.blocks[1]);
      const int64_t within = unit % (shares_.blocks[0] * shares_.blocks[1]);
      const Block depth = shares_.block(p_, 0, within / shares_.blocks[1]);
      const Block height = shares_.block(p_, 1, within % shares_.blocks[1]);
      plane_ = plane;
      n_ = p_.channels_last ? plane : plane / p_.channels;
      c_ = p_.channels_last ? 0 : plane % p_.channels;
      const bool scatters = traits_.scatters();
      depth_ = depth;
      height_ = height;
      for (int64_t od = scatters ? depth.halo : depth.begin; od < depth.end; ++od) {
        for (int64_t oh = scatters ? height.halo : height.begin; oh < height.end; ++oh) {
          windows(od, oh, od >= depth.begin && oh >= height.begin);
        }
      }
      if (scatters) finish();
    }
  }

 private:
  // --- memory

  template <class X>
  X* take(int64_t count) {
    X* at = reinterpret_cast<X*>(memory_ == nullptr ? nullptr : aligned() + taken_);
    taken_ += (count * static_cast<int64_t>(sizeof(X)) + 63) / 64 * 64;
    return at;
  }
  char* aligned() const {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_) + 63) / 64 * 64);
  }

  void lay_out() {
    for (int m = 0; m < traits_.windows_in; ++m) {
      const Axis& axis = axis_of(traits_.reads[m]);
      cut_[m] = take<S>(rows_ * axis.phases() * axis.pitch());
      line_.in[m] = take<const S*>(values_);
      if (memory_ == nullptr) continue;
      for (int64_t k = 0; k < values_; ++k) {
        line_.in[m][k] = cut_[m] + k / p_.kernel[2] * axis.phases() * axis.pitch() +
                         axis.offset(k % p_.kernel[2]);
      }
    }
    for (int m = 0; m < traits_.windows_out; ++m) {
      S* lines = take<S>(values_ * pitch_);
      line_.out[m] = take<S*>(values_);
      for (int64_t k = 0; memory_ != nullptr && k < values_; ++k) {
        line_.out[m][k] = lines + k * pitch_ + margin_;
      }
    }
    cell_ = take<S>(length_ + 2 * kLanes);
    line_.cell = cell_;
    line_.cell_out = take<S>(length_ + 2 * kLanes);
    beta_ = take<S>(length_ + 2 * kLanes);
    line_.beta = beta_;
    line_.beta_gradient = take<S>(length_ + 2 * kLanes);
    inside_ = take<S>((p_.kernel[2] + 1) * (length_ + 2 * kLanes));
    line_.valid = take<const S*>(values_);
    cover_ = take<S>(p_.size[2]);
    row_buffer_ = take<S>((row_ > p_.kernel[2] * length_ ? row_ : p_.kernel[2] * length_) + 2 * kLanes);
    phases_ = take<const S*>(map_axis_.phases() + mask_axis_.phases());
    sums_ = take<S>(map_axis_.phases() * map_axis_.pitch());
    bins_ = take<S>(kLanes * block_);
    owned_rows_ = take<S>(owned_ * row_);
    line_.room.count = line_.count;
    line_.room.free = take<char>(kMostTaken * (values_ * 4 * kLanes + 64));
  }

  const Axis& axis_of(Lie lie) const { return lie == Lie::kMask ? mask_axis_ : map_axis_; }

  // The most rows of the input that a unit owns.
  int64_t most_owned() const {
    int64_t product = 1;
    for (int dim = 0; dim < 2; ++dim) {
      int64_t most = 0;
      for (int64_t i = 0; i < shares_.blocks[dim]; ++i) {
        const Block b = shares_.block(p_, dim, i);
        most = b.last - b.first > most ? b.last - b.first : most;
      }
      product *= most;
    }
    return product;
  }

  // --- the border

  // How many windows contain position `at` of a dimension.
  int64_t covers(int dim, int64_t at) const {
    const int64_t padded = at + p_.padding[dim];
    int64_t last = padded / p_.stride[dim];
    if (last >= p_.out[dim]) last = p_.out[dim] - 1;
    return last - first_window(dim, at) + 1;
  }
  // The first window that reaches position `at`; one that lies behind it where none does.
  int64_t first_window(int dim, int64_t at) const {
    const int64_t behind = at + p_.padding[dim] - p_.kernel[dim] + 1;
    return behind <= 0 ? 0 : (behind + p_.stride[dim] - 1) / p_.stride[dim];
  }
  int64_t at_least_one(int64_t n) const { return n > 0 ? n : 1; }

  // Lines of 0 and 1 for each column of a window; the last of all 0, for rows outside the image.
  void mark_border() {
    const int64_t pitch = length_ + 2 * kLanes;
    int64_t begin = 0;
    int64_t end = p_.out[2];
    for (int64_t j = 0; j < p_.kernel[2]; ++j) {
      for (int64_t i = length_; i < pitch; ++i) inside_[j * pitch + i] = S(1);
      for (int64_t ow = 0; ow < p_.out[2]; ++ow) {
        const int64_t w = ow * p_.stride[2] - p_.padding[2] + j;
        const bool valid = w >= 0 && w < p_.size[2];
        if (!valid && w < 0 && begin < ow + 1) begin = ow + 1;
        if (!valid && w >= 0 && end > ow) end = ow;
        for (int64_t i = 0; i < block_; ++i) inside_[j * pitch + ow * block_ + i] = S(valid);
      }
    }
    whole_begin_ = begin * block_;
    // What is computed beyond the line's end may be anything.
    whole_end_ = end == p_.out[2] ? pitch : end * block_;
    shared_columns_ = false;
    for (int64_t w = 0; w < p_.size[2]; ++w) {
      cover_[w] = static_cast<S>(at_least_one(covers(2, w)));
      shared_columns_ = shared_columns_ || cover_[w] > S(1);
    }
  }

  // --- one row of windows

  void windows(int64_t od, int64_t oh, bool own) {
    bool whole = true;
    for (int64_t i = 0; i < rows_; ++i) {
      int64_t d, h;
      const bool valid = row_of(od, oh, i, d, h);
      whole = whole && valid;
      for (int64_t j = 0; j < p_.kernel[2]; ++j) {
        line_.valid[i * p_.kernel[2] + j] =
            inside_ + (valid ? j : p_.kernel[2]) * (length_ + 2 * kLanes);
      }
      for (int m = 0; m < traits_.windows_in; ++m) {
        const Axis& axis = axis_of(traits_.reads[m]);
        S* to = cut_[m] + i * axis.phases() * axis.pitch();
        const T* from = static_cast<const T*>(p_.windows_in[m]);
        if (traits_.reads[m] == Lie::kMask) {
          cut(from + mask_row(od, oh, i), axis, to);
        } else if (!valid) {
          cut<T>(nullptr, axis, to);
        } else if (traits_.reads[m] == Lie::kShared && divided(d, h)) {
          convert(from + map_row(d, h), row_buffer_, row_);
          divide_row(row_buffer_, d, h);
          cut(static_cast<const S*>(row_buffer_), axis, to);
        } else {
          cut(from + map_row(d, h), axis, to);
        }
      }
    }
    line_.whole_begin = whole ? whole_begin_ : 0;
    line_.whole_end = whole ? whole_end_ : 0;
    const int64_t cells = ((plane_ * p_.out[0] + od) * p_.out[1] + oh) * length_;
    if (traits_.cells_in > 0) convert(static_cast<const T*>(p_.cell_in) + cells, cell_, length_);
    if (traits_.beta) load_beta(od, oh);
    look_ahead(od, oh);
    run_(line_);
    if (own) {
      if (traits_.cells_out > 0) {
        convert(line_.cell_out, static_cast<T*>(p_.cell_out) + cells, length_);
      }
      if (traits_.beta_gradient) keep_beta_gradient(od, oh, cells);
    }
    for (int m = 0; m < traits_.windows_out; ++m) {
      if (traits_.writes[m] == Lie::kMask) {
        for (int64_t i = 0; i < rows_; ++i) join(m, od, oh, i);
      } else {
        for (int64_t i = 0; i < rows_; ++i) scatter(m, od, oh, i);
      }
    }
  }

  // The rows that the next row of windows adds to these are fetched while these are computed.
  void look_ahead(int64_t od, int64_t oh) {
    const int64_t h = oh * p_.stride[1] - p_.padding[1] + p_.kernel[1];
    const int64_t d = od * p_.stride[0] - p_.padding[0];
    line_.ahead_step = 0;
    if (d < 0 || d >= p_.size[0] || h < 0 || h + p_.stride[1] > p_.size[1]) return;
    const T* map = static_cast<const T*>(p_.windows_in[0]);
    line_.ahead = reinterpret_cast<const char*>(map + map_row(d, h));
    const int64_t bytes = p_.stride[1] * row_ * static_cast<int64_t>(sizeof(T));
    line_.ahead_step = (bytes * Simd<S>::kCount / length_ + 63) / 64 * 64;
  }

  // Row i of the windows (od, oh) in the input; whether it lies in it.
  bool row_of(int64_t od, int64_t oh, int64_t i, int64_t& d, int64_t& h) const {
    d = od * p_.stride[0] - p_.padding[0] + i / p_.kernel[1];
    h = oh * p_.stride[1] - p_.padding[1] + i % p_.kernel[1];
    return d >= 0 && d < p_.size[0] && h >= 0 && h < p_.size[1];
  }
  int64_t map_row(int64_t d, int64_t h) const {
    return ((plane_ * p_.size[0] + d) * p_.size[1] + h) * row_;
  }
  int64_t mask_row(int64_t od, int64_t oh, int64_t i) const {
    const int64_t d = od * p_.kernel[0] + i / p_.kernel[1];
    const int64_t h = oh * p_.kernel[1] + i % p_.kernel[1];
    return ((plane_ * p_.out[0] * p_.kernel[0] + d) * p_.out[1] * p_.kernel[1] + h) * length_ *
           p_.kernel[2];
  }

  void join(int m, int64_t od, int64_t oh, int64_t i) {
    for (int64_t j = 0; j < p_.kernel[2]; ++j) phases_[j] = line_.out[m][i * p_.kernel[2] + j];
    T* to = static_cast<T*>(p_.windows_out[m]) + mask_row(od, oh, i);
    if constexpr (sizeof(T) == sizeof(S)) {
      put<false>(phases_, mask_axis_, to);
    } else {
      put<false>(phases_, mask_axis_, row_buffer_);
      convert(row_buffer_, to, p_.kernel[2] * length_);
    }
  }

  // --- scattering

  // Adds the gradients of row i of the windows to the input's row, or starts it with them.
  void scatter(int m, int64_t od, int64_t oh, int64_t i) {
    int64_t d, h;
    if (!row_of(od, oh, i, d, h) || !owns(d, h)) return;
    const int64_t phases = map_axis_.phases();
    const int64_t stride = p_.stride[2];
    for (int64_t r = 0; r < phases; ++r) {
      for (int64_t j = r; j < p_.kernel[2]; j += stride) {
        S* line = line_.out[m][i * p_.kernel[2] + j];
        clear(line + length_, margin_ + 2 * kLanes);
      }
      const S* first = line_.out[m][i * p_.kernel[2] + r];
      phases_[r] = first;
      if (r + stride >= p_.kernel[2]) continue;
      // Positions j, j + stride, … of a window, of the one before it, … are the same column.
      S* sum = sums_ + r * map_axis_.pitch();
      const int64_t numbers = map_axis_.length() * block_;
      for (int64_t at = 0; at < numbers; at += Simd<S>::kCount) {
        auto total = load(first + at);
        for (int64_t j = r + stride, back = block_; j < p_.kernel[2]; j += stride, back += block_) {
          total = total + load(line_.out[m][i * p_.kernel[2] + j] + at - back);
        }
        store(sum + at, total);
      }
      phases_[r] = sum;
    }
    S* to = row_at(m, d, h);
    if (od == first_window(0, d) && oh == first_window(1, h)) {
      put<false>(phases_, map_axis_, to);
    } else {
      put<true>(phases_, map_axis_, to);
    }
  }

  bool owns(int64_t d, int64_t h) const {
    return d >= depth_.first && d < depth_.last && h >= height_.first && h < height_.last;
  }
  // Where a row is added up: in the result, or in memory of our own if that has less precision.
  S* row_at(int m, int64_t d, int64_t h) {
    if (!own_rows_) return static_cast<S*>(p_.windows_out[m]) + map_row(d, h);
    return owned_rows_ +
           ((d - depth_.first) * (height_.last - height_.first) + h - height_.first) * row_;
  }

  // Rows that belong to several windows of "area" are divided by their number.
  bool divided(int64_t d, int64_t h) const {
    return p_.gain == 0.0 && (shared_columns_ || covers(0, d) * covers(1, h) > 1);
  }
  void divide_row(S* row, int64_t d, int64_t h) const {
    const S rows = static_cast<S>(at_least_one(covers(0, d)) * at_least_one(covers(1, h)));
    for (int64_t w = 0; w < p_.size[2]; ++w) {
      const S number = rows * cover_[w];
      for (int64_t i = 0; i < block_; ++i) row[w * block_ + i] /= number;
    }
  }

  void finish() {
    for (int64_t d = depth_.first; d < depth_.last; ++d) {
      for (int64_t h = height_.first; h < height_.last; ++h) {
        S* row = row_at(0, d, h);
        if (covers(0, d) <= 0 || covers(1, h) <= 0) {
          clear(row, row_);
        } else if (traits_.writes[0] == Lie::kShared && divided(d, h)) {
          divide_row(row, d, h);
        }
        if (own_rows_) convert(row, static_cast<T*>(p_.windows_out[0]) + map_row(d, h), row_);
      }
    }
  }

  // --- beta

  void load_beta(int64_t od, int64_t oh) {
    const Beta& b = p_.beta;
    const T* at = static_cast<const T*>(b.data) + n_ * b.batch + c_ * b.channel +
                  od * b.space[0] + oh * b.space[1];
    if (at == beta_loaded_) return;
    beta_loaded_ = at;
    const int64_t channel = block_ > 1 ? b.channel : 0;
    line_.one_beta = b.space[2] == 0 && channel == 0;
    if (line_.one_beta) {
      beta_[0] = to_number(*at);
      return;
    }
    S* to = beta_;
    for (int64_t ow = 0; ow < p_.out[2]; ++ow, at += b.space[2]) {
      for (int64_t c = 0; c < block_; ++c) *to++ = to_number(at[c * channel]);
    }
  }

  void keep_beta_gradient(int64_t od, int64_t oh, int64_t cells) {
    if (p_.beta_map != nullptr) {
      convert(line_.beta_gradient, static_cast<S*>(p_.beta_map) + cells, length_);
    } else if (p_.beta_rows != nullptr) {
      // Column ow adds to bin ow % kLanes, whichever the layout, so that both give the same bits.
      clear(bins_, kLanes * block_);
      for (int64_t ow = 0; ow < p_.out[2]; ++ow) {
        S* bin = bins_ + ow % kLanes * block_;
        const S* from = line_.beta_gradient + ow * block_;
        for (int64_t c = 0; c < block_; ++c) bin[c] += from[c];
      }
      S* out = static_cast<S*>(p_.beta_rows) +
               ((n_ * p_.out[0] + od) * p_.out[1] + oh) * p_.channels + c_;
      for (int64_t c = 0; c < block_; ++c) {
        S sum = bins_[c];
        for (int i = 1; i < kLanes; ++i) sum += bins_[i * block_ + c];
        out[c] = sum;
      }
    }
  }

  const Problem& p_;
  const Traits& traits_;
  const Run run_;
  const Shares shares_;
  Axis map_axis_, mask_axis_;
  Line<S> line_;
  int64_t block_, rows_, values_, length_, row_, margin_, pitch_;
  int64_t owned_ = 0;
  int64_t whole_begin_ = 0, whole_end_ = 0;
  bool shared_columns_ = false, own_rows_ = false;
  char* memory_ = nullptr;
  int64_t taken_ = 0;
  S *cut_[kMaxWindows] = {}, *cell_, *beta_, *inside_, *cover_, *row_buffer_, *sums_, *bins_;
  S* owned_rows_;
  const S** phases_;
  const T* beta_loaded_ = nullptr;
  int64_t plane_ = 0, n_ = 0, c_ = 0;
  Block depth_, height_;
};

// Units [begin, end) of `Shares`.
template <class Method>
void general(const Problem& problem, int64_t begin, int64_t end) {
  const Traits traits = Traits::of<Method>();
  auto run = run_line<Method, float>;
  if constexpr (Method::kCommon) {
    if (problem.kernel[0] == 1 && problem.kernel[1] == 3 && problem.kernel[2] == 3) {
      run = run_line_of<Method, float, 9>;
    }
  }
  switch (problem.type) {
    case Type::kFloat: return Rows<float>(problem, traits, run).units(begin, end);
    case Type::kBFloat16: return Rows<BFloat16>(problem, traits, run).units(begin, end);
    case Type::kHalf: return Rows<Half>(problem, traits, run).units(begin, end);
    case Type::kDouble:
      return Rows<double>(problem, traits, run_line<Method, double>).units(begin, end);
  }
}

}  // namespace adapool::ADAPOOL_ISA
