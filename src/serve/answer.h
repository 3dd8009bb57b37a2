// SPDX-License-Identifier: MIT
// One answer while it is written: tokens come in, what may be shown goes out.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/batcher.h"
#include "serve/text_stream.h"
#include "serve/tool_calls.h"

namespace qwerky::serve {

/// One token of an answer's text, with where that begins.
struct ToldToken {
  Logprobs logprobs;
  int64_t offset = 0;  ///< Unicode characters before it
};

class Answer {
 public:
  struct Options {
    std::vector<std::string> stops;
    ToolStyle tools = ToolStyle::none;
    bool one_tool_call = false;
    bool tell_tokens = false;
  };
  /// What may be shown now; the tokens are those whose text begins in what was shown. Valid until the next call.
  struct Piece {
    std::string text;
    std::vector<ToolCall> calls;
    int64_t first_call = 0;  ///< how many came before
    std::span<const ToldToken> tokens;
    bool empty() const { return text.empty() && calls.empty() && tokens.empty(); }
  };

  Answer(const Tokenizer& tokenizer, const Options& options)
      : tokenizer_(tokenizer),
        options_(options),
        stream_(tokenizer, options.stops, options.tools == ToolStyle::none),
        parser_(options.tools) {}

  /// The prompt is part of the text. `told`: one entry for each id, or none.
  Piece echo(std::span<const int32_t> prompt, std::vector<Logprobs>&& told);
  Piece add(const Logprobs& told);
  /// A token that ends the text and has none of its own, told all the same.
  void add_end(const Logprobs& told);
  /// The text ends here.
  Piece finish();
  /// Nothing may follow: a stop string, or the one call that was wanted.
  bool complete() const { return stream_.stopped() || (options_.one_tool_call && !calls_.empty()); }

  /// Why it ended. `limited`: at the last token that it might have.
  const char* finish_reason(bool limited) const {
    return limited && !complete() ? "length" : calls_.empty() ? "stop" : "tool_calls";
  }

  // All that was shown.
  const std::string& text() const { return text_; }
  const std::vector<ToolCall>& calls() const { return calls_; }
  std::span<const ToldToken> tokens() const { return {tokens_.data(), told_}; }
  int64_t generated() const { return generated_; }  ///< tokens that add() got
  /// Of these, those that stand wholly before a stop string; all where there was none.
  int64_t before_stop() const;

 private:
  Piece show(const std::string& text, bool last);

  const Tokenizer& tokenizer_;
  const Options options_;
  TextStream stream_;
  ToolCallParser parser_;
  std::string text_;
  std::vector<ToolCall> calls_;
  std::vector<ToldToken> tokens_;
  size_t told_ = 0;       // of tokens_
  int64_t before_ = 0;    // characters of the prompt
  int64_t released_ = 0;  // characters that the stop strings let pass, the prompt's included
  int64_t generated_ = 0;
  std::vector<int64_t> ends_;  // of each token that add() got: characters up to its end
};

}  // namespace qwerky::serve
