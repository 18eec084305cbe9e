"""C++ sources of the native kernels; compiled by adapool_sr.ops.build."""
