// SPDX-License-Identifier: MIT
// One list of fields per struct: `template <class V> void visit(V& v) { v("name", field, "help"); … }` yields JSON both
// ways here, and flags with help in the program.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"

namespace qwerky {

template <class T>
nlohmann::json to_json(const T& options);
/// Sets the fields that `json` names; an unknown key or a value of the wrong type is an Error naming it. `where` is
/// the place for messages.
template <class T>
void from_json(T& options, const nlohmann::json& json, const std::string& where);

namespace internal {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

struct JsonWriter {
  nlohmann::json json = nlohmann::json::object();
  template <class T>
  void operator()(const char* name, T& field, const char*) {
    json[name] = encode(field);
  }
  template <class T>
  static nlohmann::json encode(T& field) {
    if constexpr (IsVector<T>::value) {
      nlohmann::json list = nlohmann::json::array();
      for (auto& item : field) list.push_back(encode(item));
      return list;
    } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
      return field;
    } else {
      return to_json(field);
    }
  }
};

struct JsonReader {
  const nlohmann::json& json;
  const std::string& where;
  std::set<std::string> known = {};
  template <class T>
  void operator()(const char* name, T& field, const char*) {
    known.insert(name);
    if (json.contains(name)) decode(field, json[name], where + "." + name);
  }
  template <class T>
  static void decode(T& field, const nlohmann::json& value, const std::string& where) {
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
    } else if constexpr (std::is_integral_v<T>) {  // 1e6 is written as a float but is a whole number
      if (!value.is_number() || static_cast<double>(static_cast<int64_t>(value.get<double>())) != value.get<double>())
        fail(where, ": expected a whole number, found ", value.dump());
      field =
          static_cast<T>(value.is_number_integer() ? value.get<int64_t>() : static_cast<int64_t>(value.get<double>()));
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
nlohmann::json to_json(const T& options) {
  internal::JsonWriter writer;
  const_cast<T&>(options).visit(writer);
  return writer.json;
}

template <class T>
void from_json(T& options, const nlohmann::json& json, const std::string& where) {
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
