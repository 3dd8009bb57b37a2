// SPDX-License-Identifier: MIT
#include "serve/states.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "serve/fields.h"

namespace qwerky::serve {
namespace {

constexpr size_t kMostStates = 256;  // that one owner may name: they are never evicted

OrderedJson described(const std::string& name, const Snapshot& state) {
  return {{"name", name}, {"tokens", state.ids.size()}, {"bytes", state.bytes()}};
}
OrderedJson described(const std::string& name, const Snapshot& state, const Asked& asked) {
  OrderedJson out = described(name, state);
  out["milliseconds"] = std::round(seconds_since(asked.arrived) * 1e6) / 1e3;
  return out;
}

/// RequestError 400 when the owner has too many, or too much; 500 when there is nothing to save, or it cannot be
/// written.
void save(const Asked& asked, const std::string& name, const SnapshotPtr& state) {
  if (!state) throw RequestError(500, "the generation left no state to save", "save_state");
  StateCache& cache = asked.model.cache();
  const std::vector<std::string> names = cache.names(asked.owner);
  if (names.size() >= kMostStates && std::find(names.begin(), names.end(), name) == names.end())
    throw RequestError(400, concat("there are ", names.size(), " saved states, as many as may be; delete one"), "name",
                       "too_many_states");
  try {
    cache.save(asked.owner, name, state);
  } catch (const NoRoom& e) {
    throw RequestError(400, e.what(), "name", "no_room_for_state");
  } catch (const Error& e) {
    throw our_fault(asked, "the state could not be saved", e.what());
  }
}

RequestError no_state(const std::string& name, const char* field) {
  return RequestError(404, concat("there is no state named ", name), field, "state_not_found");
}

/// Reads ids and answers when their state is saved.
void read_and_save(const std::shared_ptr<const Asked>& asked, std::vector<int32_t>&& ids, const std::string& name) {
  Generation g;
  g.owner = asked->owner;
  g.deadline = asked->deadline;
  g.boundaries = {static_cast<int64_t>(ids.size())};
  g.prompt = std::move(ids);
  g.max_tokens = 0;
  g.on_end = [asked, name](Finish finish, const Usage& usage, SnapshotPtr end, const std::string& why) {
    asked->later(Work::disk, [asked, name, finish, usage, end = std::move(end), why] {
      auto error = failure(*asked, finish, why);
      if (!error) error = error_of([&] { save(*asked, name, end); });
      if (error) return answer_error(*asked, *error);
      OrderedJson out = described(name, *end, *asked);
      out["cached_tokens"] = usage.reused_tokens;
      answer_json(*asked, out);
    });
  };
  const auto id = asked->model.batcher().submit(std::move(g));
  if (!id) throw queue_full(*asked);
  asked->reply->on_leave([&model = asked->model, id = *id] { model.batcher().cancel(id); });
}

}  // namespace

OrderedJson save_state(const Asked& asked, const std::string& name, const SnapshotPtr& state) {
  const auto error = error_of([&] { save(asked, name, state); });
  if (error) return error_json(error->status, error->what(), "save_state", error->code);
  return described(name, *state);
}

SnapshotPtr find_state(const Asked& asked, const std::string& name, const char* field, bool restore) {
  SnapshotPtr state;
  try {
    StateCache& cache = asked.model.cache();
    state = restore ? cache.restore(asked.owner, name) : cache.load(asked.owner, name);
  } catch (const Error& e) {
    throw our_fault(asked, "the state could not be read", e.what());
  }
  if (state) return state;
  throw no_state(name, field);
}

void list_states(const Asked& asked, std::span<const std::unique_ptr<ServedModel>> models) {
  OrderedJson states = OrderedJson::array();
  for (const auto& model : models)
    for (const std::string& name : model->cache().names(asked.owner))
      states.push_back({{"name", name}, {"model", model->name()}});
  answer_json(asked, {{"states", std::move(states)}});
}

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
    if (const int64_t most = model.capacity(); most > 0 && static_cast<int64_t>(ids.size()) > most)
      throw RequestError(400, concat("the context holds ", most, " tokens; this text has ", ids.size()), "prompt",
                         "context_length_exceeded");
    return read_and_save(std::make_shared<const Asked>(std::move(asked)), std::move(ids), name);
  }
  if (action == "restore") {
    fields.finish();
    const SnapshotPtr state = find_state(asked, name, "name", true);
    return answer_json(asked, described(name, *state, asked));
  }
  if (action == "fork") {
    const std::string to = fields.text("to");
    check_state_name("to", to);
    fields.finish();
    const SnapshotPtr state = find_state(asked, name, "name");
    save(asked, to, state);
    return answer_json(asked, described(to, *state, asked));
  }
  if (action == "delete") {
    fields.finish();
    try {
      if (!model.cache().remove(asked.owner, name)) throw no_state(name, "name");
    } catch (const RequestError&) {
      throw;
    } catch (const Error& e) {
      throw our_fault(asked, "the state could not be deleted", e.what());
    }
    return answer_json(asked, {{"name", name}, {"deleted", true}});
  }
  refuse_field("action", "expected save, restore, fork or delete");
}

}  // namespace qwerky::serve
