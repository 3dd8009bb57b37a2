// SPDX-License-Identifier: MIT
#include "serve/states.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "serve/fields.h"

namespace qwerky::serve {
namespace {

constexpr size_t kMostStates = 256;  // that one owner may name: they are never evicted

OrderedJson described(const std::string& name, const Snapshot& state, double seconds) {
  return {{"name", name},
          {"tokens", state.ids.size()},
          {"bytes", state.bytes()},
          {"milliseconds", std::round(seconds * 1e6) / 1e3}};
}

/// Reads a text into a state of its own, which is then saved.
void read_and_save(Asked&& asked, std::vector<int32_t>&& ids, const std::string& name) {
  Generation g;
  g.owner = asked.owner;
  g.deadline = asked.deadline;
  g.prompt = std::move(ids);
  g.max_tokens = 0;
  ServedModel& model = asked.model;
  const auto shared = std::make_shared<Asked>(std::move(asked));
  g.on_end = [shared, name](Finish finish, const Usage& usage, SnapshotPtr end, const std::string& error) {
    shared->later([=] {
      try {
        if (const auto failed = failure(finish, error)) throw *failed;
        save_state(shared->model, shared->owner, name, end);
        OrderedJson out = described(name, *end, seconds_since(shared->arrived));
        out["cached_tokens"] = usage.reused_tokens;
        answer_json(*shared, out);
      } catch (const RequestError& e) {
        answer_error(*shared, e);
      } catch (const Error& e) {
        answer_error(*shared, RequestError(500, e.what()));
      }
    });
  };
  const auto id = model.batcher().submit(std::move(g));
  if (!id) throw queue_full();
  shared->reply->on_leave([&model, id = *id] { model.batcher().cancel(id); });
}

}  // namespace

SnapshotPtr find_state(ServedModel& model, const std::string& owner, const std::string& name) {
  if (SnapshotPtr state = model.cache().load(owner, name)) return state;
  throw RequestError(404, concat("there is no state named ", name), "state", "state_not_found");
}

void save_state(ServedModel& model, const std::string& owner, const std::string& name, SnapshotPtr state) {
  if (!state) throw RequestError(500, "the generation left no state to save", "save_state");
  const std::vector<std::string> names = model.cache().names(owner);
  if (names.size() >= kMostStates && std::find(names.begin(), names.end(), name) == names.end())
    throw RequestError(400, concat("there are ", names.size(), " saved states, as many as may be; delete one"),
                       "save_state", "too_many_states");
  model.cache().save(owner, name, std::move(state));
}

void list_states(const Asked& asked) { answer_json(asked, {{"states", asked.model.cache().names(asked.owner)}}); }

void change_states(Asked&& asked, const OrderedJson& body, const RequestLimits& limits) {
  Fields fields(body);
  fields.find("model");  // was read to choose the model
  const std::string action = fields.text("action"), name = fields.text("name");
  check_state_name("name", name);
  ServedModel& model = asked.model;
  if (action == "save") {
    const OrderedJson *prompt = fields.find("prompt"), *messages = fields.find("messages");
    if ((prompt == nullptr) == (messages == nullptr)) refuse_field("prompt", "expected either prompt or messages");
    fields.finish();
    std::vector<int32_t> ids;
    if (messages != nullptr) {
      ids = model.engine().encode(model.chat().render(read_messages(*messages, limits), false));
    } else {
      const auto prompts = read_prompts("prompt", *prompt, limits);
      if (prompts.size() != 1) refuse_field("prompt", "expected one prompt, found ", prompts.size());
      ids = model.ids_of(prompts[0]);
    }
    return read_and_save(std::move(asked), std::move(ids), name);
  }
  if (action == "restore") {
    fields.finish();
    const SnapshotPtr state = find_state(model, asked.owner, name);
    return answer_json(asked, described(name, *state, seconds_since(asked.arrived)));
  }
  if (action == "fork") {
    const std::string to = fields.text("to");
    check_state_name("to", to);
    fields.finish();
    const SnapshotPtr state = find_state(model, asked.owner, name);
    save_state(model, asked.owner, to, state);
    return answer_json(asked, described(to, *state, seconds_since(asked.arrived)));
  }
  if (action == "delete") {
    fields.finish();
    if (!model.cache().remove(asked.owner, name))
      throw RequestError(404, concat("there is no state named ", name), "name", "state_not_found");
    return answer_json(asked, {{"name", name}, {"deleted", true}});
  }
  refuse_field("action", "expected save, restore, fork or delete");
}

}  // namespace qwerky::serve
