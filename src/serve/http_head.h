// SPDX-License-Identifier: MIT
// What a request's header must be before a body is looked for.
#pragma once

#include <boost/beast/http/message.hpp>
#include <string>
#include <string_view>

namespace qwerky::serve {

/// Why a request is refused, or empty. Whatever two programs may read differently is: a proxy in front, or a key's
/// owner, must mean the same request as this server does (RFC 9112, sections 3.2, 6.1 and 11.2).
std::string why_refused(const boost::beast::http::request_header<>& head);

/// What a request's target names: "/path?query", or "http://host/path?query" (RFC 9112, section 3.2).
struct Target {
  std::string_view host;  ///< in place of the Host header; empty: that
  std::string_view path;  ///< without query
};
Target read_target(std::string_view target);

}  // namespace qwerky::serve
