// SPDX-License-Identifier: MIT
// A plain validator for the part of JSON Schema that constrained output supports: the specification that tests hold
// the automaton against.
#pragma once

#include <cmath>
#include <regex>
#include <string>

#include "base/json.h"

namespace qwerky::testing {

class SchemaCheck {
 public:
  explicit SchemaCheck(const OrderedJson& root) : root_(root) {}

  bool valid(const OrderedJson& v) const { return valid(root_, v); }

 private:
  bool valid(const OrderedJson& s, const OrderedJson& v) const {
    if (s.is_boolean()) return s.get<bool>();
    if (s.value("nullable", false) && v.is_null()) return true;
    if (s.contains("$ref") && !valid(target(s["$ref"]), v)) return false;
    if (s.contains("const") && s["const"] != v) return false;
    if (s.contains("enum") && std::find(s["enum"].begin(), s["enum"].end(), v) == s["enum"].end()) return false;
    if (s.contains("allOf"))
      for (const auto& part : s["allOf"])
        if (!valid(part, v)) return false;
    for (const char* any : {"anyOf", "oneOf"})
      if (s.contains(any) &&
          std::none_of(s[any].begin(), s[any].end(), [&](const auto& part) { return valid(part, v); }))
        return false;
    if (s.contains("type")) {
      const OrderedJson types = s["type"].is_array() ? s["type"] : OrderedJson::array({s["type"]});
      if (std::none_of(types.begin(), types.end(), [&](const auto& t) { return has_type(v, t); })) return false;
    }
    if (v.is_object()) return object(s, v);
    if (v.is_array()) return array(s, v);
    if (v.is_string()) return string(s, v);
    if (v.is_number()) return number(s, v.get<double>());
    return true;
  }

  static bool has_type(const OrderedJson& v, const std::string& type) {
    if (type == "integer") return v.is_number() && std::floor(v.get<double>()) == v.get<double>();
    return v.type_name() == type;
  }

  const OrderedJson& target(const std::string& ref) const { return root_.at(OrderedJson::json_pointer(ref.substr(1))); }

  bool object(const OrderedJson& s, const OrderedJson& v) const {
    if (s.contains("required"))
      for (const std::string name : s["required"])
        if (!v.contains(name)) return false;
    for (const auto& [name, member] : v.items()) {
      if (s.contains("properties") && s["properties"].contains(name)) {
        if (!valid(s["properties"][name], member)) return false;
      } else if (s.contains("additionalProperties") && !valid(s["additionalProperties"], member)) {
        return false;
      }
    }
    return true;
  }

  bool array(const OrderedJson& s, const OrderedJson& v) const {
    if (v.size() < s.value("minItems", size_t{0}) || v.size() > s.value("maxItems", SIZE_MAX)) return false;
    const size_t fixed = s.contains("prefixItems") ? s["prefixItems"].size() : 0;
    for (size_t i = 0; i < v.size(); ++i) {
      if (i < fixed && !valid(s["prefixItems"][i], v[i])) return false;
      if (i >= fixed && s.contains("items") && !valid(s["items"], v[i])) return false;
    }
    return true;
  }

  bool string(const OrderedJson& s, const std::string& v) const {
    const auto length =
        static_cast<size_t>(std::count_if(v.begin(), v.end(), [](char c) { return (c & 0xC0) != 0x80; }));
    if (length < s.value("minLength", size_t{0}) || length > s.value("maxLength", SIZE_MAX)) return false;
    return !s.contains("pattern") || std::regex_search(v, std::regex(s["pattern"].get<std::string>()));
  }

  bool number(const OrderedJson& s, double v) const {
    return v >= s.value("minimum", -HUGE_VAL) && v <= s.value("maximum", HUGE_VAL) &&
           v > s.value("exclusiveMinimum", -HUGE_VAL) && v < s.value("exclusiveMaximum", HUGE_VAL);
  }

  const OrderedJson& root_;
};

}  // namespace qwerky::testing
