// SPDX-License-Identifier: MIT
#include "eval/prompt.h"

#include <algorithm>

#include "base/error.h"
#include "io/chat_template.h"
#include "io/tokenizer.h"

namespace qwerky {
namespace {

std::string system_text(const Task& task, const PromptStyle& style) {
  if (!style.system) return task.description;
  return task.description.empty() ? *style.system : *style.system + "\n\n" + task.description;
}

OrderedJson message(const char* role, const std::string& content) { return {{"role", role}, {"content", content}}; }

/// What is said before the question, in turns.
OrderedJson conversation(const Task& task, std::span<const Document* const> examples, const PromptStyle& style) {
  OrderedJson messages = OrderedJson::array();
  if (const std::string system = system_text(task, style); !system.empty())
    messages.push_back(message("system", system));
  std::string block;
  for (const Document* example : examples) {
    if (style.multiturn) {
      const auto [question, answer] = question_and_answer(*example);
      messages.push_back(message("user", question));
      messages.push_back(message("assistant", answer));
    } else {
      block += example_of(task, *example);
    }
  }
  if (!block.empty()) messages.push_back(message("user", block));
  return messages;
}

}  // namespace

std::vector<Request> requests_of(const Task& task, const Document& document, std::span<const Document* const> examples,
                                 const PromptStyle& style) {
  if (!style.render || task.kind == Kind::rolling) {
    std::string prefix = system_text(task, style);
    for (const Document* example : examples) prefix += example_of(task, *example);
    return requests_of(task, document, prefix);
  }
  OrderedJson messages = conversation(task, examples, style);
  std::vector<std::string> contexts;
  if (document.contexts.size() > 1) {  // each choice is a conversation of its own behind the rendered examples
    const std::string before = messages.empty() ? "" : style.render(messages);
    for (const std::string& context : document.contexts)
      contexts.push_back(before + style.render(OrderedJson::array({message("user", context)})));
  } else {
    if (!messages.empty() && messages.back()["role"] == "user") {
      messages.back()["content"] = messages.back()["content"].get<std::string>() + document.contexts[0];
    } else {
      messages.push_back(message("user", document.contexts[0]));
    }
    contexts.push_back(style.render(messages));
  }
  if (task.kind == Kind::generate) return {{contexts[0], ""}};
  std::vector<Request> requests;
  for (const std::string& context : contexts)
    for (const std::string& choice : document.choices) requests.push_back({context, choice});  // without a delimiter
  return requests;
}

void use_chat_template(PromptStyle& style, const Tokenizer& tokenizer, const std::string& model,
                       const std::string& name) {
  const auto& named = tokenizer.named_templates;
  const auto found = named.find(name);
  style.chat_template = found != named.end() ? found->second : name.empty() ? tokenizer.chat_template : "";
  if (style.chat_template.empty()) {
    std::string names;
    for (const auto& [other, source] : named) names += (names.empty() ? "; it has: " : ", ") + other;
    fail(model, ": the model has no chat template", name.empty() ? "" : " named \"" + name + "\"", names,
         " (chat_template in tokenizer_config.json, chat_template.jinja, or tokenizer.chat_template in a GGUF file)");
  }
  const auto source = std::make_shared<const ChatTemplate>(style.chat_template, model + ": chat template");
  style.system_refused = std::make_shared<bool>(false);
  style.render = [source, variables = chat_context(tokenizer, {}, true),
                  refused = style.system_refused](const OrderedJson& messages) {
    const auto render = [&](const OrderedJson& list) {
      OrderedJson context = variables;
      context["messages"] = list;
      return source->render(context);
    };
    if (messages.empty() || messages[0]["role"] != "system") return render(messages);
    try {
      return render(messages);
    } catch (const Error&) {
      OrderedJson rest = messages;
      rest.erase(0);
      std::string text = render(rest);
      *refused = true;
      return text;
    }
  };
}

}  // namespace qwerky
