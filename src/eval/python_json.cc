// SPDX-License-Identifier: MIT
#include "eval/python_json.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "io/tokenizer_utf8.h"

namespace qwerky {
namespace {

void append_unit(std::string& out, int32_t unit) {
  char text[16];
  std::snprintf(text, sizeof text, "\\u%04x", static_cast<unsigned>(unit));
  out += text;
}

void new_line(std::string& out, int indent, int depth) {
  out += '\n';
  out.append(static_cast<size_t>(indent * depth), ' ');
}

void append(std::string& out, const OrderedJson& value, DumpStyle style, int depth) {
  const bool object = value.is_object();
  if (!object && !value.is_array()) {
    if (value.is_string()) {
      out += python_quoted(value.get_ref<const std::string&>(), style.ascii);
    } else if (value.is_number_float()) {
      const double x = value.get<double>();
      out += std::isnan(x) ? "NaN" : std::isinf(x) ? (x > 0 ? "Infinity" : "-Infinity") : python_repr(x);
    } else {
      out += value.dump();
    }
    return;
  }
  out += object ? '{' : '[';
  bool first = true;
  for (auto it = value.begin(); it != value.end(); ++it) {
    if (!first) out += style.indent > 0 ? "," : ", ";
    first = false;
    if (style.indent > 0) new_line(out, style.indent, depth + 1);
    if (object) out += python_quoted(it.key(), style.ascii) + ": ";
    append(out, *it, style, depth + 1);
  }
  if (style.indent > 0 && !first) new_line(out, style.indent, depth);
  out += object ? '}' : ']';
}

}  // namespace

std::string python_repr(double x) {
  if (std::isnan(x)) return "nan";
  if (std::isinf(x)) return x > 0 ? "inf" : "-inf";
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, x, std::chars_format::scientific).ptr;
  const std::string scientific(text, end);
  const size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;  // float_repr_style 'r': both write at least two digits
  const auto fixed = std::to_chars(text, text + sizeof text, x, std::chars_format::fixed).ptr;
  const std::string plain(text, fixed);
  return plain.find('.') == plain.npos ? plain + ".0" : plain;
}

std::string python_quoted(std::string_view text, bool ascii) {
  std::string out = "\"";
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    const int32_t code = step.code;
    switch (code) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (code < 0x20 || (ascii && code >= 0x7F && code < 0x10000)) {
          append_unit(out, code);
        } else if (ascii && code >= 0x10000) {
          append_unit(out, 0xD800 + ((code - 0x10000) >> 10));
          append_unit(out, 0xDC00 + ((code - 0x10000) & 0x3FF));
        } else {
          append_utf8(out, code);
        }
    }
    at += static_cast<size_t>(step.length);
  }
  return out += '"';
}

std::string python_dumps(const OrderedJson& value, DumpStyle style) {
  std::string out;
  append(out, value, style, 0);
  return out;
}

}  // namespace qwerky
