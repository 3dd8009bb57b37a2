// SPDX-License-Identifier: MIT
// The two ways to stop: fail() when the world is wrong, CHECK() when we are.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace qwerky {

/// A file, flag, shape or request is wrong. The message names the thing, what was expected, what was
/// found and, if known, what to do. Caught in main() and in the request handler, nowhere else.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown where work stops because the user asked for it, and nothing is lost by that.
struct Interrupted {};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// fail("tensor ", name, ": expected [", want, "], file has [", got, "]")
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(concat(parts...));
}

/// Prints `what` with its place and aborts: a bug in this program, not in its input.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& what) noexcept;

}  // namespace qwerky

#define CHECK(condition, ...)                                                                                  \
  do {                                                                                                         \
    if (!(condition)) [[unlikely]]                                                                             \
      ::qwerky::check_failed(__FILE__, __LINE__, #condition, ::qwerky::concat("" __VA_OPT__(, ) __VA_ARGS__)); \
  } while (0)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
  } while (0)
#else
#define DCHECK(condition, ...) CHECK(condition __VA_OPT__(, ) __VA_ARGS__)
#endif
