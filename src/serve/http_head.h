// SPDX-License-Identifier: MIT
// What a request's header must be before a body is looked for.
#pragma once

#include <boost/beast/http/message.hpp>
#include <string>

namespace qwerky::serve {

/// Why a request is refused, or empty. Whatever two programs may read differently is: a proxy in front, or a key's
/// owner, must mean the same request as this server does (RFC 9112, sections 3.2, 6.1 and 11.2).
std::string why_refused(const boost::beast::http::request_header<>& head);

}  // namespace qwerky::serve
