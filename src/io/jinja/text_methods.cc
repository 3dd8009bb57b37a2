// SPDX-License-Identifier: MIT
// Methods of texts.
#include <algorithm>

#include "io/jinja/evaluator.h"
#include "io/jinja/text.h"

namespace qwerky::jinja {
namespace {

Value list_of(const std::vector<std::string_view>& parts, Budget& budget) {
  Items items;
  for (std::string_view part : parts) {
    budget.spend_text(part.size() + 48);
    items.emplace_back(part);
  }
  return Value::list(std::move(items));
}

/// str.split and str.rsplit; without `separator` at white space. most < 0: no limit.
std::vector<std::string_view> split(std::string_view text, const Value* separator, int64_t most, bool from_right) {
  std::vector<std::string_view> out;
  if (separator != nullptr && !separator->is_none()) {
    if (!separator->text() || separator->text()->empty())
      fail("split: expected a text that is not empty, found ", separator->type());
    const std::string_view by = *separator->text();
    std::vector<size_t> places;
    if (from_right) {  // found in the text read backwards: "aaa" by "aa" differs
      const std::string back(text.rbegin(), text.rend()), by_back(by.rbegin(), by.rend());
      for (size_t at = 0; (at = find_text(back, by_back, at)) != back.npos; at += by.size())
        places.push_back(text.size() - at - by.size());
      std::reverse(places.begin(), places.end());
    } else {
      for (size_t at = 0; (at = find_text(text, by, at)) != text.npos; at += by.size()) places.push_back(at);
    }
    const size_t n = most < 0 ? places.size() : std::min(places.size(), static_cast<size_t>(most));
    const size_t skipped = from_right ? places.size() - n : 0;
    size_t begin = 0;
    for (size_t i = skipped; i < skipped + n; ++i) {
      out.push_back(text.substr(begin, places[i] - begin));
      begin = places[i] + by.size();
    }
    out.push_back(text.substr(begin));
    return out;
  }
  const auto is_blank = [](std::string_view c) { return strip(c, true, false).empty(); };
  std::string_view rest = strip(text, !from_right, from_right);
  while (!rest.empty()) {
    if (most == 0) {
      out.push_back(rest);
      break;
    }
    size_t cut = 0;  // bytes of the word at that end
    if (!from_right) {
      for (std::string_view left = rest; !left.empty();) {
        const std::string_view c = characters(left, 0, 1);
        if (is_blank(c)) break;
        cut += c.size(), left.remove_prefix(c.size());
      }
      out.push_back(rest.substr(0, cut));
      rest = strip(rest.substr(cut), true, false);
    } else {
      for (size_t end = rest.size(); end > 0;) {
        size_t last = end - 1;
        while ((static_cast<unsigned char>(rest[last]) & 0xC0) == 0x80) --last;
        if (is_blank(rest.substr(last, end - last))) break;
        cut += end - last, end = last;
      }
      out.push_back(rest.substr(rest.size() - cut));
      rest = strip(rest.substr(0, rest.size() - cut), false, true);
    }
    --most;
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

/// str.format with {}, {0} and {name}.
std::string filled(const std::string& format, const Arguments& arguments, Evaluator& e) {
  std::string out;
  size_t automatic = 0;
  bool numbered = false;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (i + 1 < format.size() && format[i + 1] == c) {
      out += c, ++i;
      continue;
    }
    const size_t end = c == '{' ? format.find('}', i) : format.npos;
    if (end == format.npos) fail("format: a single ", c);
    const std::string field = format.substr(i + 1, end - i - 1);
    if (field.find_first_of("!:.[]{") != field.npos)
      fail("format: the field {", field.substr(0, 40), "} is not supported");
    i = end;
    const bool digits = !field.empty() && field.find_first_not_of("0123456789") == field.npos;
    if (field.empty() || digits) {
      if (field.empty() ? numbered : automatic > 0) fail("format: numbered and unnumbered fields in one text");
      numbered = digits;
      const auto at = digits ? static_cast<size_t>(parse_integer(field, 10).value_or(0)) : automatic++;
      if (at >= arguments.positional.size()) fail("format: no argument ", at);
      out += e.text_of(arguments.positional[at]);
    } else {
      const auto it =
          std::find_if(arguments.named.begin(), arguments.named.end(), [&](const auto& n) { return n.first == field; });
      if (it == arguments.named.end()) fail("format: no argument ", field.substr(0, 40));
      out += e.text_of(it->second);
    }
    e.budget.spend_text(out.size());
  }
  return out;
}

}  // namespace

std::string Evaluator::replaced(const std::string& text, const std::string& from, const std::string& to, int64_t most) {
  std::vector<size_t> places;
  const auto wanted = [&] { return most < 0 || places.size() < static_cast<size_t>(most); };
  if (from.empty()) {  // between all characters
    size_t at = 0;
    for (std::string_view c : characters(text)) {
      if (wanted()) places.push_back(at);
      at += c.size();
    }
    if (wanted()) places.push_back(at);
  } else {
    for (size_t at = 0; wanted() && (at = find_text(text, from, at)) != text.npos; at += from.size())
      places.push_back(at);
  }
  if (places.size() > 0 && to.size() > static_cast<size_t>(Limits::kTextBytes) / places.size())
    fail("replace: the text would be too long");
  budget.spend_text(text.size() + places.size() * to.size());
  std::string out;
  size_t begin = 0;
  for (size_t at : places) {
    out.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return out.append(text, begin);
}

Value Evaluator::call_text_method(const std::string& self, const std::string& name, const Arguments& arguments) {
  const auto bind = [&](std::string_view parameters) { return Bound(name, arguments, parameters); };
  const auto size = static_cast<int64_t>(self.size());
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    const Bound b = bind("/chars?");
    const bool given = b[0] != nullptr && !b[0]->is_none();
    if (given) budget.spend(size * static_cast<int64_t>(b.text(0).size()) / 64);
    return make_text(std::string(strip(self, name != "rstrip", name != "lstrip",
                                       given ? std::optional<std::string_view>(b.text(0)) : std::nullopt)));
  }
  if (name == "split" || name == "rsplit") {
    const Bound b = bind("sep? maxsplit?");
    budget.spend(size / 4);
    return list_of(split(self, b[0], b.integer(1).value_or(-1), name == "rsplit"), budget);
  }
  if (name == "splitlines") return list_of(split_lines(self, bind("keepends?").integer(0).value_or(0) != 0), budget);
  if (name == "startswith" || name == "endswith") {
    const Bound b = bind("/prefix");
    const auto matches = [&](const Value& part) {
      if (!part.text()) fail(name, ": expected a text, found ", part.type());
      return name == "startswith" ? self.starts_with(*part.text()) : self.ends_with(*part.text());
    };
    if (!b[0]->is_list(List::Kind::tuple)) return matches(*b[0]);
    return std::any_of(b[0]->list()->items.begin(), b[0]->list()->items.end(), matches);
  }
  if (name == "replace") {
    const Bound b = bind("/old new count?");
    return replaced(self, b.text(0), b.text(1), b.integer(2).value_or(-1));
  }
  if (name == "join") {
    const Bound b = bind("/parts");
    std::string text;
    const Items items = iterate(*b[0], budget);
    if (b[0]->is_undefined()) return "";
    for (size_t i = 0; i < items.size(); ++i) {
      if (!items[i].text()) fail("join: expected texts, found ", items[i].type());
      if (i > 0) text += self;
      text += *items[i].text();
      budget.spend_text(self.size() + items[i].text()->size());
      budget.spend_text(text.size() > static_cast<size_t>(Limits::kTextBytes) ? text.size() : 0);
    }
    return text;
  }
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    bind("");
    budget.spend(size);
    return make_text(name == "upper"   ? upper(self)
                     : name == "lower" ? lower(self)
                     : name == "title" ? title(self)
                                       : capitalize(self));
  }
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex") {
    const Bound b = bind("/part");
    const size_t at = name[0] == 'r' ? rfind_text(self, b.text(0)) : find_text(self, b.text(0));
    if (at == self.npos && name.ends_with("index")) fail(name, ": the part is not in the text");
    return at == self.npos ? int64_t{-1} : length(std::string_view(self).substr(0, at));
  }
  if (name == "count") {
    const Bound b = bind("/part");
    int64_t n = 0;
    if (b.text(0).empty()) return length(self) + 1;
    for (size_t at = 0; (at = find_text(self, b.text(0), at)) != self.npos; at += b.text(0).size()) ++n;
    return n;
  }
  if (name == "partition" || name == "rpartition") {
    const Bound b = bind("/separator");
    if (b.text(0).empty()) fail(name, ": the separator is empty");
    const bool right = name == "rpartition";
    const size_t at = right ? rfind_text(self, b.text(0)) : find_text(self, b.text(0));
    const std::string_view s = self;
    if (at == s.npos) return Value::list(right ? Items{"", "", self} : Items{self, "", ""}, List::Kind::tuple);
    budget.spend_text(s.size());
    return Value::list({s.substr(0, at), b.text(0), s.substr(at + b.text(0).size())}, List::Kind::tuple);
  }
  if (name == "removeprefix" || name == "removesuffix") {
    const Bound b = bind("/part");
    const bool front = name == "removeprefix";
    if (!(front ? self.starts_with(b.text(0)) : self.ends_with(b.text(0)))) return make_text(self);
    return make_text(self.substr(front ? b.text(0).size() : 0, self.size() - b.text(0).size()));
  }
  if (name == "ljust" || name == "rjust" || name == "zfill") {
    const Bound b = bind(name == "zfill" ? "/width" : "/width fill?");
    const std::string fill = name == "zfill" ? "0" : b[1] != nullptr ? b.text(1) : " ";
    if (length(fill) != 1) fail(name, ": expected one character to fill with");
    const int64_t missing = b.integer(0).value_or(0) - length(self);
    const Value padding = missing > 0 ? binary("*", fill, missing) : Value("");
    const size_t sign = name == "zfill" && (self.starts_with('-') || self.starts_with('+')) ? 1 : 0;
    return make_text(name == "ljust" ? self + *padding.text()
                                     : self.substr(0, sign) + *padding.text() + self.substr(sign));
  }
  if (name == "isupper") return bind(""), is_upper(self);
  if (name == "islower") return bind(""), is_lower(self);
  if (name == "isspace") return bind(""), !self.empty() && strip(self, true, false).empty();
  if (name == "isascii" || name == "isdigit" || name == "isdecimal" || name == "isnumeric" || name == "isalpha" ||
      name == "isalnum") {
    bind("");
    const bool ascii = std::all_of(self.begin(), self.end(), [](unsigned char c) { return c < 0x80; });
    if (name == "isascii") return ascii;
    if (!ascii) fail(name, " of a text outside ASCII is not supported");
    return !self.empty() && std::all_of(self.begin(), self.end(), [&](unsigned char c) {
      return (std::isdigit(c) != 0 && name != "isalpha") || (std::isalpha(c) != 0 && name.starts_with("isal"));
    });
  }
  if (name == "format") return make_text(filled(self, arguments, *this));
  fail("the method ", name, " of a text is not supported");
}

}  // namespace qwerky::jinja
