// The sources of the module infersdk._native.providers, as one. Modules are built side by side, and
// two that compiled the same file would write the same object.
#include "../src/dlpack.cpp"
#include "../src/library.cpp"
#include "../src/provider.cpp"
