// SPDX-License-Identifier: MIT
#include "serve/text_stream.h"

#include <algorithm>

namespace qwerky::serve {

int64_t characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t first = held_.npos, end = held_.npos;  // of the one that is complete first
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == held_.npos || at + stop.size() > end || (at + stop.size() == end && at > first)) continue;
    first = at;
    end = at + stop.size();
  }
  if (first != held_.npos) {
    stopped_ = true;
    return held_.substr(0, first);
  }
  // The longest end of the text with which a stop string begins.
  size_t keep = 0;
  for (const std::string& stop : stops_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.ends_with(std::string_view(stop).substr(0, n))) keep = n;
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  return out;
}

std::string StopFilter::finish() { return stopped_ ? std::string() : std::exchange(held_, {}); }

}  // namespace qwerky::serve
