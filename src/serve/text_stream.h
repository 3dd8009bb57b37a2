// SPDX-License-Identifier: MIT
// Text as it is written, token by token: whole UTF-8 characters only, and never a part of a stop string.
#pragma once

#include <string>
#include <vector>

#include "io/tokenizer.h"

namespace qwerky::serve {

/// Unicode characters of UTF-8.
int64_t characters(std::string_view utf8);

/// Holds back the end of a text that may become a stop string.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// What of the text so far may be shown. Once a stop string is complete, what stands before it, and then nothing.
  std::string push(std::string_view text);
  /// The text ends here: what was held back.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops, bool skip_special = true)
      : decoder_(tokenizer, skip_special), filter_(std::move(stops)) {}
  /// Text that the id completes and that may be shown.
  std::string push(int32_t id) { return add(decoder_.push(id)); }
  std::string finish() {
    std::string out = add(decoder_.finish());
    return out += filter_.finish();
  }
  int64_t characters() const { return characters_; }  ///< complete so far, shown or not
  bool stopped() const { return filter_.stopped(); }

 private:
  std::string add(const std::string& text) {
    characters_ += serve::characters(text);
    return filter_.push(text);
  }

  StreamDecoder decoder_;
  StopFilter filter_;
  int64_t characters_ = 0;
};

}  // namespace qwerky::serve
