// SPDX-License-Identifier: MIT
#include "io/chat_format.h"

#include <algorithm>

#include "base/error.h"

namespace qwerky {
namespace {

constexpr const char *kQuestion = "one-question", *kAnswer = "one-answer", *kNext = "another-question";

OrderedJson message(const char* role, const char* content) { return {{"role", role}, {"content", content}}; }

}  // namespace

TurnEnd ChatFormat::turn_end(const OrderedJson& before, const OrderedJson& more) const {
  OrderedJson messages = before;
  messages.push_back(message("user", kQuestion));
  messages.push_back(message("assistant", kAnswer));
  const std::string answered = render(messages, false, more);
  messages.push_back(message("user", kNext));
  const std::string text = render(messages, false, more);
  const std::string_view answer = kAnswer;
  const size_t begin = text.find(answer), end = text.find(kNext);
  TurnEnd out;
  if (begin == text.npos || end == text.npos || end < begin) return out;
  out.text = text.substr(begin + answer.size(), end - begin - answer.size());
  if (text.starts_with(answered) && answered.size() > begin) out.closing = answered.substr(begin + answer.size());
  const std::vector<int32_t> ids = tokenizer_.encode(out.text);
  for (size_t i = 0; i < ids.size() && i < 2 && !out.token; ++i)  // perhaps behind a newline
    if (tokenizer_.is_special(ids[i])) out.token = ids[i];
  while (!out.text.empty() && (out.text.back() == ' ' || out.text.back() == '\n')) out.text.pop_back();
  return out;
}

std::string ChatFormat::continuation(const OrderedJson& messages, bool prompt, const OrderedJson& more) const {
  OrderedJson all = OrderedJson::array({message("user", kQuestion), message("assistant", kAnswer)});
  const std::string before = render(all, false, more);
  for (const OrderedJson& m : messages) all.push_back(m);
  std::string text = render(all, prompt, more);
  if (!text.starts_with(before))
    fail("chat template: it changes what it wrote when messages follow, so that nothing can be added to a state");
  return text.substr(before.size());
}

std::vector<int64_t> ChatFormat::boundaries(const OrderedJson& messages, const OrderedJson& more, std::string_view text,
                                            const std::vector<int32_t>& ids, int64_t most) const {
  std::vector<size_t> ends;  // of each token in the text
  size_t end = 0;
  for (const int32_t id : ids) ends.push_back(end += tokenizer_.piece(id).size());
  const bool spelled = end == text.size();  // not by a tokenizer that changes the text
  const auto tokens_of = [&](const std::string& part) -> std::optional<int64_t> {
    if (!text.starts_with(part)) return std::nullopt;
    if (spelled) {
      const auto at = std::lower_bound(ends.begin(), ends.end(), part.size());
      if (at == ends.end() || *at != part.size()) return std::nullopt;
      return at - ends.begin() + 1;
    }
    const std::vector<int32_t> own = tokenizer_.encode(part);
    if (own.size() > ids.size() || !std::equal(own.begin(), own.end(), ids.begin())) return std::nullopt;
    return static_cast<int64_t>(own.size());
  };
  std::vector<int64_t> out;
  const auto count = static_cast<int64_t>(messages.size());
  OrderedJson first = OrderedJson::array();
  for (int64_t n = 1; n <= count; ++n) {
    first.push_back(messages[static_cast<size_t>(n - 1)]);
    if (n > 1 && n <= count - most) continue;
    try {
      const auto size = tokens_of(render(first, false, more));
      if (size && *size > (out.empty() ? 0 : out.back())) out.push_back(*size);
    } catch (const Error&) {  // a template may refuse a conversation that stops here
    }
  }
  return out;
}

}  // namespace qwerky
