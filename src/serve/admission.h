// SPDX-License-Identifier: MIT
// Who may ask: API keys, and pages of the web that call a server on the reader's own machine.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qwerky::serve {

/// Compares all bytes whatever they are; the time tells the lengths alone.
bool equal_in_constant_time(std::string_view a, std::string_view b);

class ApiKeys {
 public:
  /// None: everybody may ask.
  ApiKeys() = default;
  /// One key a line, of at least 16 characters; empty lines and lines that begin with '#' are left out. Throws Error
  /// naming the line. `name` is for messages.
  ApiKeys(std::string_view text, const std::string& name);

  bool empty() const { return digests_.empty(); }
  size_t size() const { return digests_.size(); }
  /// Who an Authorization header ("Bearer KEY") is: a name made from the key, that does not give it away. Nothing: no
  /// key of ours. "anyone" when there are no keys.
  std::optional<std::string> owner(std::string_view authorization) const;

 private:
  std::vector<std::string> digests_;  // SHA-256 of each key
};

/// Whether a request with these headers comes from a page that may call: none (no Origin), the server's own, or
/// `allowed` ("*": any). `host` is the Host header.
bool origin_allowed(std::string_view origin, std::string_view host, std::string_view allowed);

/// Whether a Host header names this machine itself. A page elsewhere whose name was made to mean 127.0.0.1 (DNS
/// rebinding) gives its own name.
bool names_loopback(std::string_view host);

/// The Content-Security-Policy of a page: its own <style> and <script> elements by their SHA-256, data: images, calls
/// of the server that it came from, and nothing else.
std::string content_policy(std::string_view page);

}  // namespace qwerky::serve
