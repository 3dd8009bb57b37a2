// SPDX-License-Identifier: MIT
#include "serve/tool_calls.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "io/files.h"

namespace qwerky::serve {
namespace {

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>", kPython = "<|python_tag|>";
constexpr int kMostPieces = 64;

std::string_view trimmed(std::string_view text) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::optional<ToolCall> read_call(std::string_view text) {
  OrderedJson json;
  try {
    json = parse_ordered_json(trimmed(text), "tool call");
  } catch (const Error&) {
    return std::nullopt;  // a model may write anything
  }
  if (!json.is_object() || !json.contains("name") || !json["name"].is_string()) return std::nullopt;
  const char* key = json.contains("arguments") ? "arguments" : "parameters";
  const OrderedJson arguments = json.contains(key) ? json[key] : OrderedJson::object();
  if (!arguments.is_object()) return std::nullopt;
  return ToolCall{json["name"].get<std::string>(), arguments.dump()};
}

/// Bytes at the end of `text` with which `tag` may begin.
size_t begun(std::string_view text, std::string_view tag) {
  for (size_t n = std::min(tag.size() - 1, text.size()); n > 0; --n)
    if (text.ends_with(tag.substr(0, n))) return n;
  return 0;
}

/// Where the end tag stands outside the JSON's strings.
size_t end_of_call(std::string_view text) {
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (!quoted && text.substr(i).starts_with(kClose))
      return i;
  }
  return text.npos;
}

}  // namespace

ToolStyle tool_style(std::string_view chat_template) {
  if (chat_template.find(kOpen) != chat_template.npos) return ToolStyle::hermes;
  if (chat_template.find("\"parameters\"") != chat_template.npos && chat_template.find("ipython") != chat_template.npos)
    return ToolStyle::llama3;
  return ToolStyle::none;
}

ToolCallParser::Parsed ToolCallParser::push(std::string_view text) {
  Parsed out;
  held_ += text;
  if (style_ == ToolStyle::hermes) {
    push_hermes(out);
  } else {
    if (style_ == ToolStyle::llama3 && !plain_) {
      const std::string_view begin = trimmed(held_);
      plain_ = !begin.empty() && begin[0] != '{' && !begin.starts_with(kPython) && !kPython.starts_with(begin);
    }
    if (style_ == ToolStyle::none || plain_) out.text = std::exchange(held_, {});
  }
  return out;
}

void ToolCallParser::push_hermes(Parsed& out) {
  while (true) {
    if (after_call_) {  // line ends that part calls are no text
      held_.erase(0, std::min(held_.find_first_not_of("\r\n"), held_.size()));
      after_call_ = held_.empty();
    }
    const std::string_view tag = inside_ ? kClose : kOpen;
    const size_t at = inside_ ? end_of_call(held_) : held_.find(kOpen);
    if (at == held_.npos) {
      if (inside_) return;
      const size_t shown = held_.size() - begun(held_, tag);
      out.text += held_.substr(0, shown);
      held_.erase(0, shown);
      return;
    }
    const std::string before = held_.substr(0, at);
    held_.erase(0, at + tag.size());
    if (!inside_) {
      out.text += before;
    } else if (auto call = read_call(before)) {
      ++calls_;
      out.calls.push_back(std::move(*call));
      after_call_ = true;
    } else {
      out.text += concat(kOpen, before, kClose);
    }
    inside_ = !inside_;
  }
}

ToolCallParser::Parsed ToolCallParser::finish() {
  Parsed out;
  if (style_ == ToolStyle::llama3 && !plain_) {
    finish_llama(out);
  } else if (inside_) {
    if (auto call = read_call(held_)) {  // the end tag may be what ended the answer
      ++calls_;
      out.calls.push_back(std::move(*call));
    } else {
      out.text = concat(kOpen, held_);
    }
  } else {
    out.text = held_;
  }
  held_.clear();
  return out;
}

void ToolCallParser::finish_llama(Parsed& out) {
  std::string_view text = trimmed(held_);
  if (text.starts_with(kPython)) text.remove_prefix(kPython.size());
  if (text.empty()) out.text = held_;
  // A ';' within a text of the JSON is no border: the pieces on both sides of it are no calls.
  int tries = 0;
  for (size_t begin = 0, end = 0; begin < text.size();) {
    end = ++tries < kMostPieces ? text.find(';', end) : text.npos;
    const size_t stop = std::min(end, text.size());
    if (auto call = read_call(text.substr(begin, stop - begin))) {
      out.calls.push_back(std::move(*call));
      begin = stop + 1;
    } else if (end == text.npos) {
      out.calls.clear();
      out.text = held_;
      return;
    }
    end = stop + 1;
  }
  calls_ = static_cast<int64_t>(out.calls.size());
}

}  // namespace qwerky::serve
