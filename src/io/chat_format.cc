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

std::vector<int64_t> ChatFormat::boundaries(const OrderedJson& messages, const OrderedJson& more,
                                            const std::vector<int32_t>& ids, int64_t most) const {
  std::vector<int64_t> out;
  const auto count = static_cast<int64_t>(messages.size());
  OrderedJson first = OrderedJson::array();
  for (int64_t n = 1; n <= count; ++n) {
    first.push_back(messages[static_cast<size_t>(n - 1)]);
    if (n > 1 && n <= count - most) continue;
    std::vector<int32_t> part;
    try {
      part = tokenizer_.encode(render(first, false, more));
    } catch (const Error&) {
      continue;  // a template may refuse a conversation that stops here
    }
    const auto size = static_cast<int64_t>(part.size());
    if (size == 0 || part.size() > ids.size() || !std::equal(part.begin(), part.end(), ids.begin())) continue;
    if (out.empty() || size > out.back()) out.push_back(size);
  }
  return out;
}

}  // namespace qwerky
