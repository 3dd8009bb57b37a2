// SPDX-License-Identifier: MIT
// How often a test repeats a case. AddressSanitizer slows the code by 5 to 20 and looks at each access: more draws,
// more text of the same kind show it nothing new. The release build runs the same test whole.
#pragma once

namespace qwerky::testing {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#else
constexpr bool kAddressSanitizer = false;
#endif

/// `whole`, or `sanitized` under AddressSanitizer.
template <class T>
constexpr T repetitions(T whole, T sanitized) {
  return kAddressSanitizer ? sanitized : whole;
}

}  // namespace qwerky::testing
