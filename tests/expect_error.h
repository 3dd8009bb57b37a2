// SPDX-License-Identifier: MIT
// Tests of error messages: EXPECT_PRED2(has, error_of([] { … }), "part of the message")
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace qwerky::testing {

/// The message of the Error that `f` throws.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "no Error thrown";
  return {};
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != text.npos; }

}  // namespace qwerky::testing
