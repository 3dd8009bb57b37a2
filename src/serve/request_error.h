// SPDX-License-Identifier: MIT
// A request that is refused: with a status, and the field that is to blame, as OpenAI's clients read it.
#pragma once

#include "base/error.h"

namespace qwerky::serve {

class RequestError : public Error {
 public:
  RequestError(int the_status, const std::string& message, std::string the_param = {}, std::string the_code = {})
      : Error(message), status(the_status), param(std::move(the_param)), code(std::move(the_code)) {}
  int status;
  std::string param;    ///< the field's name, or empty
  std::string code;     ///< such as "model_not_found", or empty
  int retry_after = 0;  ///< seconds; 0: not told
};

/// 400 for one field.
template <class... Parts>
[[noreturn]] void refuse_field(const std::string& name, const Parts&... parts) {
  throw RequestError(400, concat(name, ": ", parts...), name);
}

}  // namespace qwerky::serve
