// SPDX-License-Identifier: MIT
// JSON enforced while it is written: which tokens may follow in an automaton's text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/byte_automaton.h"
#include "engine/constraint.h"
#include "io/tokenizer.h"

namespace qwerky {

/// The bytes of a model's tokens, so arranged that tokens with a common beginning are tried together. Built once per
/// model; any number of constraints may use it at once.
class TokenBytes {
 public:
  /// `ends`: the tokens that may end a text. Special tokens stand for no text and are never allowed within one. Throws
  /// Error when a byte that JSON may need is no token, or nothing ends a text.
  TokenBytes(const Tokenizer& tokenizer, std::vector<int32_t> ends);

  /// Bytes that are a token by themselves.
  const ByteSet& alone() const { return alone_; }

 private:
  friend class JsonConstraint;
  /// A byte sequence that tokens begin with, in the order of a walk from the root.
  struct Node {
    uint8_t byte;
    int32_t depth;        ///< bytes so far, this one included
    int32_t past;         ///< the node behind all that go on from this one
    int32_t first, last;  ///< in `ids`: tokens that end here
  };
  struct Trie {
    std::vector<Node> nodes;
    std::vector<int32_t> ids;
    int32_t deepest = 0;
  };
  struct Plain {
    int32_t characters;
    int32_t id;
  };
  Trie make_trie(std::vector<int32_t> ids) const;

  ByteSet alone_;
  std::vector<std::string> pieces_;
  std::vector<int32_t> ends_;
  Trie all_;
  /// Tokens of whole characters that stand for themselves in a JSON string, fewest first; and the trie of the others.
  std::vector<Plain> plain_;
  Trie rest_;
};

/// Of texts that the automaton reads (json_object_automaton, json_schema_automaton with these tokens' alone()): for
/// response_format, and for the arguments of a tool. Ends with one of the tokens that end a text, once the JSON is
/// complete.
std::unique_ptr<Constraint> make_json_constraint(std::shared_ptr<const ByteAutomaton> automaton,
                                                 std::shared_ptr<const TokenBytes> tokens);

}  // namespace qwerky
