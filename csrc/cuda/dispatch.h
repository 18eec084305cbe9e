// From what a plan says to the item that does it. runner.run<Item>(problem, items) is called once.
#pragma once

#include "tiles.h"

namespace adapool::cuda {

template <class Scalar, class Method, Task kTask, class Runner>
void dispatch_spread(const Launch& launch, const Problem& p, int64_t items, Runner& runner) {
  if (launch.step == Step::kState) {
    runner.template run<StateItem<Scalar, Method, kTask>>(p, items);
  } else if (launch.step == Step::kGather) {
    runner.template run<GatherItem<Scalar, Method, kTask>>(p, items);
  } else if (launch.step == Step::kItem) {
    runner.template run<SpreadItem<Scalar, Method, kTask>>(p, items);
  } else if constexpr (!std::is_same_v<Scalar, double>) {
    constexpr bool kMayMask = Method::kMixed && kTask == Task::kPoolBackward;
    if (kMayMask && launch.masks) {
      if (p.channels_last) {
        runner.template run<SpreadTile<Scalar, Method, true, kTask, kMayMask>>(p, items);
      } else {
        runner.template run<SpreadTile<Scalar, Method, false, kTask, kMayMask>>(p, items);
      }
    } else if (p.channels_last) {
      runner.template run<SpreadTile<Scalar, Method, true, kTask, false>>(p, items);
    } else {
      runner.template run<SpreadTile<Scalar, Method, false, kTask, false>>(p, items);
    }
  }
}

template <class Scalar, class Method, class Runner>
void dispatch_pool(const Launch& launch, const Problem& p, int64_t items, Runner& runner) {
  if (launch.step == Step::kItem) {
    runner.template run<PoolItem<Scalar, Method>>(p, items);
  } else if constexpr (!std::is_same_v<Scalar, double>) {
    if (Method::kMixed && launch.masks) {
      if (p.channels_last) {
        runner.template run<PoolTile<Scalar, Method, true, Method::kMixed>>(p, items);
      } else {
        runner.template run<PoolTile<Scalar, Method, false, Method::kMixed>>(p, items);
      }
    } else if (p.channels_last) {
      runner.template run<PoolTile<Scalar, Method, true, false>>(p, items);
    } else {
      runner.template run<PoolTile<Scalar, Method, false, false>>(p, items);
    }
  }
}

template <class Scalar, class Method, class Runner>
void dispatch_method(const Launch& launch, const Problem& p, int64_t items, Runner& runner) {
  if (launch.operation == Operation::kPool) {
    dispatch_pool<Scalar, Method>(launch, p, items, runner);
  } else if (launch.operation == Operation::kPoolBackward) {
    dispatch_spread<Scalar, Method, Task::kPoolBackward>(launch, p, items, runner);
  } else if constexpr (Method::kMixed) {
    if (launch.operation == Operation::kLike) {
      dispatch_spread<Scalar, Method, Task::kLike>(launch, p, items, runner);
    } else {
      dispatch_spread<Scalar, Method, Task::kLikeBackward>(launch, p, items, runner);
    }
  }
}

template <class Scalar, class Runner>
void dispatch_unpool(const Launch& launch, const Problem& p, int64_t items, Runner& runner) {
  const bool backward = launch.operation == Operation::kUnpoolBackward;
  if (launch.step == Step::kItem) {
    if (backward) {
      runner.template run<UnpoolBackwardItem<Scalar>>(p, items);
    } else {
      runner.template run<UnpoolItem<Scalar>>(p, items);
    }
  } else if constexpr (!std::is_same_v<Scalar, double>) {
    if (backward && p.channels_last) {
      runner.template run<UnpoolBackwardTile<Scalar, true>>(p, items);
    } else if (backward) {
      runner.template run<UnpoolBackwardTile<Scalar, false>>(p, items);
    } else if (p.channels_last) {
      runner.template run<UnpoolTile<Scalar, true>>(p, items);
    } else {
      runner.template run<UnpoolTile<Scalar, false>>(p, items);
    }
  }
}

template <class Scalar, class Runner>
void dispatch(const Launch& launch, const Problem& p, int64_t items, Runner& runner) {
  if (launch.operation == Operation::kUnpool || launch.operation == Operation::kUnpoolBackward) {
    dispatch_unpool<Scalar>(launch, p, items, runner);
  } else if (launch.weighting == Weighting::kAda) {
    dispatch_method<Scalar, AdaMethod>(launch, p, items, runner);
  } else if (launch.weighting == Weighting::kEdscw) {
    dispatch_method<Scalar, EdscwMethod>(launch, p, items, runner);
  } else if (launch.weighting == Weighting::kEm) {
    dispatch_method<Scalar, EmMethod>(launch, p, items, runner);
  } else {
    dispatch_method<Scalar, IdwMethod>(launch, p, items, runner);
  }
}

}  // namespace adapool::cuda
