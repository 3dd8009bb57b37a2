// SPDX-License-Identifier: MIT
#include "serve/admission.h"

#include <algorithm>

#include "base/error.h"
#include "io/files.h"
#include "serve/base64.h"

namespace qwerky::serve {
namespace {

constexpr size_t kShortestKey = 16;

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.rfind(':'));
}

/// " 'sha256-…'" for the content of each such element (Content Security Policy Level 2, hash sources). The page is
/// ours: a tag has no attributes and stands in no text.
std::string hashes_of(std::string_view page, const std::string& element) {
  std::string out;
  const std::string open = "<" + element + ">", close = "</" + element + ">";
  for (size_t at = page.find(open); at != page.npos; at = page.find(open, at)) {
    at += open.size();
    const std::string hex = sha256(page.substr(at, page.find(close, at) - at));
    std::string digest;
    for (size_t i = 0; i < hex.size(); i += 2) digest += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    out += concat(" 'sha256-", base64(digest), "'");
  }
  return out;
}

}  // namespace

std::string content_policy(std::string_view page) {
  return concat("default-src 'none'; connect-src 'self'; img-src data:; style-src", hashes_of(page, "style"),
                "; script-src", hashes_of(page, "script"),
                "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  volatile unsigned char different = 0;
  for (size_t i = 0; i < a.size(); ++i)
    different =
        static_cast<unsigned char>(different | (static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i])));
  return different == 0;
}

ApiKeys::ApiKeys(std::string_view text, const std::string& name) {
  int line = 0;
  while (!text.empty()) {
    ++line;
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view key = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!key.empty() && (key.back() == '\r' || key.back() == ' ' || key.back() == '\t')) key.remove_suffix(1);
    if (key.empty() || key.starts_with('#')) continue;
    if (key.size() < kShortestKey)
      fail(name, ", line ", line, ": a key of ", key.size(), " characters, expected at least ", kShortestKey);
    if (std::any_of(key.begin(), key.end(), [](char c) { return c <= 0x20 || c > 0x7e; }))
      fail(name, ", line ", line, ": a key may hold printable ASCII without spaces");
    digests_.push_back(sha256(key));
  }
  if (digests_.empty()) fail(name, ": holds no key");
}

std::optional<std::string> ApiKeys::owner(std::string_view authorization) const {
  if (digests_.empty()) return "anyone";
  constexpr std::string_view kScheme = "bearer ";
  const bool bearer = authorization.size() > kScheme.size() &&
                      std::equal(kScheme.begin(), kScheme.end(), authorization.begin(),
                                 [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
  // Digests have one length, and all are compared: the time tells nothing of the keys.
  const std::string digest = sha256(bearer ? authorization.substr(kScheme.size()) : std::string_view());
  bool known = false;
  for (const std::string& ours : digests_) known |= equal_in_constant_time(digest, ours);
  if (!known || !bearer) return std::nullopt;
  return sha256("owner " + digest).substr(0, 32);
}

bool origin_allowed(std::string_view origin, std::string_view host, std::string_view allowed) {
  if (origin.empty() || allowed == "*" || (!allowed.empty() && origin == allowed)) return true;
  const size_t scheme = origin.find("://");
  return scheme != origin.npos && !host.empty() && origin.substr(scheme + 3) == host;
}

bool names_loopback(std::string_view host) {
  const std::string_view name = without_port(host);
  // No name of the web ends in digits alone (WHATWG URL, 3.5): this is an address, and all of 127.0.0.0/8 is here.
  const bool v4 = name.starts_with("127.") && name.find_first_not_of("0123456789.") == name.npos;
  return name.empty() || host == "::1" || name == "localhost" || v4 || name == "[::1]";
}

}  // namespace qwerky::serve
