// The tests of the Notifier on the pipe that it uses where there is no eventfd. The few sources
// that it needs are compiled again here, in a namespace of their own.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#undef __linux__
#define infersdk infersdk_with_pipe

#include "../src/library.cpp"
#include "../src/notifier.cpp"
#include "../src/tensor.cpp"
#include "test_notifier.cpp"
