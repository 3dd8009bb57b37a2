// SPDX-License-Identifier: MIT
// One list of fields per struct: `template <class V> void visit(V& v) { v("name", field, "help"); … }` yields JSON both
// ways here, and flags with help in the program.
#pragma once

#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace qwerky {

template <class T>
Json to_json(const T& options);
/// Sets the fields that `json` names; an unknown key or a value of the wrong type is an Error naming it. `where` is
/// the place for messages.
template <class T>
void from_json(T& options, const Json& json, const std::string& where);

namespace internal {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

struct JsonWriter {
  Json json = Json::object();
  template <class T>
  void operator()(const char* name, T& field, const char*) {
    json[name] = encode(field);
  }
  template <class T>
  static Json encode(T& field) {
    if constexpr (IsVector<T>::value) {
      Json list = Json::array();
      for (auto& item : field) list.push_back(encode(item));
      return list;
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return field;
    } else {
      return to_json(field);
    }
  }
};

/// A number without a fraction that fits T; 1e6 is written as a float but is a whole number.
template <class T>
std::optional<T> whole_number(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto n = value.get<uint64_t>();
    return std::in_range<T>(n) ? std::optional(static_cast<T>(n)) : std::nullopt;
  }
  if (value.is_number_integer()) {
    const auto n = value.get<int64_t>();
    return std::in_range<T>(n) ? std::optional(static_cast<T>(n)) : std::nullopt;
  }
  if (!value.is_number_float()) return std::nullopt;
  const double x = value.get<double>(), end = std::ldexp(1.0, std::numeric_limits<T>::digits);  // max() + 1, exactly
  if (!(x < end && x >= (std::is_signed_v<T> ? -end : 0.0)) || x != std::floor(x)) return std::nullopt;
  return static_cast<T>(x);
}

struct JsonReader {
  const Json& json;
  const std::string& where;
  std::set<std::string> known = {};
  template <class T>
  void operator()(const char* name, T& field, const char*) {
    known.insert(name);
    if (json.contains(name)) decode(field, json[name], where + "." + name);
  }
  template <class T>
  static void decode(T& field, const Json& value, const std::string& where) {
    if constexpr (IsVector<T>::value) {
      if (!value.is_array()) fail(where, ": expected a list, found ", value.dump());
      field.clear();
      for (size_t i = 0; i < value.size(); ++i) {
        field.emplace_back();
        decode(field.back(), value[i], where + "[" + std::to_string(i) + "]");
      }
    } else if constexpr (std::is_same_v<T, bool>) {
      if (!value.is_boolean()) fail(where, ": expected true or false, found ", value.dump());
      field = value.get<bool>();
    } else if constexpr (std::is_integral_v<T>) {
      const std::optional<T> number = whole_number<T>(value);
      if (!number)
        fail(where, ": expected a whole number from ", std::numeric_limits<T>::min(), " to ",
             std::numeric_limits<T>::max(), ", found ", value.dump());
      field = *number;
    } else if constexpr (std::is_floating_point_v<T>) {
      if (!value.is_number()) fail(where, ": expected a number, found ", value.dump());
      field = value.get<T>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      if (!value.is_string()) fail(where, ": expected text, found ", value.dump());
      field = value.get<std::string>();
    } else {
      from_json(field, value, where);
    }
  }
};

}  // namespace internal

template <class T>
Json to_json(const T& options) {
  internal::JsonWriter writer;
  const_cast<T&>(options).visit(writer);
  return writer.json;
}

template <class T>
void from_json(T& options, const Json& json, const std::string& where) {
  if (!json.is_object()) fail(where, ": expected an object, found ", json.dump());
  internal::JsonReader reader{json, where};
  options.visit(reader);
  for (const auto& [key, value] : json.items())
    if (!reader.known.contains(key)) {
      std::string names;
      for (const std::string& name : reader.known) names += (names.empty() ? "" : ", ") + name;
      fail(where, ": unknown key \"", key, "\"; known: ", names);
    }
}

}  // namespace qwerky
