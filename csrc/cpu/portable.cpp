// Lets a binary that a new compiler made load where an older libstdc++ and libc are: defines the names
// that the headers refer to and that are younger than manylinux_2_28, which is what torch itself asks
// for. The linker's version script (ops/build.py) keeps them inside this library.
#include <sstream>

#if defined(__GLIBCXX__) && defined(__linux__)

// GLIBCXX_3.4.26: its default constructor.
template class std::basic_stringstream<char>;

// GLIBC_2.32. 0: other threads may run, so reference counts stay atomic.
extern "C" char __libc_single_threaded;
char __libc_single_threaded = 0;

namespace std {
// GLIBCXX_3.4.29: operator new[] with a length that overflows. Weak, for a compiler whose own library is
// an archive that defines it too.
__attribute__((weak)) void __throw_bad_array_new_length() { throw bad_alloc(); }
}  // namespace std

#endif
