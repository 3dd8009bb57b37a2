// SPDX-License-Identifier: MIT
#include "serve/http_head.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>

namespace qwerky::serve {

std::string why_refused(const boost::beast::http::request_header<>& head) {
  using boost::beast::http::field;
  if (head.count(field::host) > 1 || (head.version() >= 11 && head.count(field::host) == 0))
    return "expected one Host header";
  if (head.count(field::authorization) > 1) return "more than one Authorization header";
  if (head.count(field::transfer_encoding) == 0) return {};
  // Without "chunked" at its end, Beast takes such a request to have no body.
  if (head.count(field::transfer_encoding) > 1 || !boost::beast::iequals(head[field::transfer_encoding], "chunked") ||
      head.version() < 11)
    return "expected no Transfer-Encoding but chunked, in HTTP/1.1";
  if (head.count(field::content_length) > 0) return "both Content-Length and Transfer-Encoding";
  return {};
}

Target read_target(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  Target out{{}, target};
  if (boost::beast::iequals({target.data(), std::min(target.size(), kScheme.size())},
                            {kScheme.data(), kScheme.size()})) {
    target.remove_prefix(kScheme.size());
    out.host = target.substr(0, target.find_first_of("/?"));
    out.path = target.substr(out.host.size());
  }
  out.path = out.path.substr(0, out.path.find('?'));
  if (out.path.empty()) out.path = "/";
  return out;
}

}  // namespace qwerky::serve
