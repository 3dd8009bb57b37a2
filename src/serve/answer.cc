// SPDX-License-Identifier: MIT
#include "serve/answer.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace qwerky::serve {

Answer::Piece Answer::echo(std::span<const int32_t> prompt, std::vector<Logprobs>&& told) {
  CHECK(told.empty() || told.size() == prompt.size());
  // A BOS that the tokenizer puts in front of every text was not written by anybody.
  StreamDecoder decoder(tokenizer_, tokenizer_.adds_bos);
  std::string text;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (!told.empty()) tokens_.push_back({std::move(told[i]), before_});
    const std::string more = decoder.push(prompt[i]);
    before_ += characters(more);
    text += more;
  }
  const std::string rest = decoder.finish();
  before_ += characters(rest);
  text_ += text += rest;
  released_ = before_;
  told_ = tokens_.size();
  return {std::move(text), {}, 0, tokens_};
}

Answer::Piece Answer::add(const Logprobs& told) {
  ++generated_;
  if (options_.tell_tokens) tokens_.push_back({told, before_ + stream_.characters()});
  const std::string text = stream_.push(told.id);
  ends_.push_back(before_ + stream_.characters());
  return show(text, false);
}

int64_t Answer::before_stop() const {
  if (!stream_.stopped()) return generated_;
  // A part of a character is no text yet: it may be one of the stop string's.
  const auto shown = std::upper_bound(ends_.begin(), ends_.end(), released_);
  if (shown == ends_.begin() || *std::prev(shown) == before_) return 0;
  return std::lower_bound(ends_.begin(), shown, *std::prev(shown)) - ends_.begin() + 1;
}

void Answer::add_end(const Logprobs& told) { tokens_.push_back({told, before_ + stream_.characters()}); }

Answer::Piece Answer::finish() { return show(stream_.finish(), true); }

Answer::Piece Answer::show(const std::string& text, bool last) {
  released_ += characters(text);
  ToolCallParser::Parsed parsed = parser_.push(text);
  if (last) {
    ToolCallParser::Parsed rest = parser_.finish();
    parsed.text += rest.text;
    for (ToolCall& call : rest.calls) parsed.calls.push_back(std::move(call));
  }
  if (options_.one_tool_call && calls_.size() + parsed.calls.size() > 1) parsed.calls.resize(1 - calls_.size());
  Piece piece{std::move(parsed.text), std::move(parsed.calls), static_cast<int64_t>(calls_.size()), {}};
  text_ += piece.text;
  calls_.insert(calls_.end(), piece.calls.begin(), piece.calls.end());
  const size_t first = told_;
  // Those that make up a stop string are never told; those without text of their own wait for what follows.
  while (told_ < tokens_.size() && (tokens_[told_].offset < released_ || (last && !stream_.stopped()))) ++told_;
  piece.tokens = std::span(tokens_).subspan(first, told_ - first);
  return piece;
}

}  // namespace qwerky::serve
