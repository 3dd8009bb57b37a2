// SPDX-License-Identifier: MIT
#include "serve/server.h"

#include <utility>  // asio 1.74 needs it for C++20, and leaves it out

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <charconv>
#include <limits>

#include "io/files.h"
#include "serve/embeddings.h"
#include "serve/fields.h"
#include "serve/generations.h"
#include "serve/lane.h"
#include "serve/page.h"
#include "serve/states.h"

namespace qwerky::serve {
namespace {

namespace asio = boost::asio;
using State = ServerState;

constexpr int kWorkers = 2;                      // read requests and write answers
constexpr std::chrono::seconds kLastAnswers{1};  // to be written, after all are known
constexpr std::chrono::seconds kLastStates{10};  // the same, after the answers
constexpr int64_t kEmbeddingQueue = 32;          // requests, the one under way included

constexpr std::string_view kGet = "GET", kOneModel = "/v1/models/";  // and its name

struct Route {
  const char *path, *method;
  bool open = false;  // without a key, and while loading
};
constexpr std::array kRoutes = {
    Route{"/", "GET", true},          Route{"/health", "GET", true},
    Route{"/metrics", "GET"},         Route{"/v1/models", "GET"},
    Route{kOneModel.data(), "GET"},   Route{"/tokenizer_info", "GET"},
    Route{"/state", "GET"},           Route{"/state", "POST"},
    Route{"/v1/completions", "POST"}, Route{"/v1/chat/completions", "POST"},
    Route{"/v1/embeddings", "POST"},  Route{"/tokenize", "POST"},
    Route{"/detokenize", "POST"},
};

/// A route that ends with "/" is followed by a name.
bool fits(const Route& route, std::string_view path) {
  const std::string_view own = route.path;
  return own.size() > 1 && own.ends_with('/') ? path.size() > own.size() && path.starts_with(own) : path == own;
}
/// The route of a path; empty: there is none.
std::string_view route_of(std::string_view path) {
  const auto found = std::find_if(kRoutes.begin(), kRoutes.end(), [&](const Route& r) { return fits(r, path); });
  return found == kRoutes.end() ? "" : found->path;
}

/// The bytes of a part of a path: "%2F" is "/" (RFC 3986, section 2.1).
std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char *digits = text.data() + i + 1, *end = digits + 2;
    const bool escaped = text[i] == '%' && i + 2 < text.size() && std::from_chars(digits, end, byte, 16).ptr == end;
    out += escaped ? static_cast<char>(byte) : text[i];
    i += escaped ? 2 : 0;
  }
  return out;
}

/// Methods of a path, as the Allow header lists them; empty: there is no such path.
std::string methods_of(std::string_view path) {
  std::string out;
  for (const Route& route : kRoutes)
    if (fits(route, path)) out += concat(out.empty() ? "" : ", ", route.method, route.method == kGet ? ", HEAD" : "");
  return out.empty() ? out : out + ", OPTIONS";
}

HttpResponse response_of(const RequestError& error) {
  HttpResponse out{error.status, dump(error_json(error.status, error.what(), error.param, error.code))};
  if (error.retry_after > 0) out.headers.emplace_back("Retry-After", std::to_string(error.retry_after));
  if (error.status == 401) out.headers.emplace_back("WWW-Authenticate", "Bearer");
  return out;
}

}  // namespace

struct Server::Internals : HttpHandler {
  explicit Internals(const ServerOptions& o) : options(o) { http = std::make_unique<HttpServer>(*this, options.http); }
  ~Internals() override {
    state = State::cut;
    for (const auto& model : models) model->stop();
    http->stop();
    workers.join();
    for (Lane* lane : {&large, &disk, &embedding}) lane->join();
  }

  // ---- on the server's thread

  std::string error_body(int status, const std::string& message) override {
    metrics.answered("", status);
    return dump(error_json(status, message));
  }

  std::optional<HttpResponse> before_body(HttpHead& head) override {
    try {
      admit(head);
      if (head.path == "/health") return health();
      if (head.path == "/")
        return HttpResponse{
            200, std::string(kPage), "text/html; charset=utf-8", {{"Content-Security-Policy", page_policy}}};
      if (head.method == "OPTIONS")
        return HttpResponse{204,
                            {},
                            "text/plain",
                            {{"Access-Control-Allow-Methods", "GET, POST"},
                             // Clients send their own, such as X-Stainless-OS; only Authorization is not under "*".
                             {"Access-Control-Allow-Headers", "Authorization, *"},
                             {"Access-Control-Max-Age", "600"}}};
      return std::nullopt;
    } catch (const RequestError& e) {
      metrics.answered("", e.status);
      HttpResponse response = response_of(e);
      if (e.status == 405) response.headers.emplace_back("Allow", methods_of(head.path));
      return response;
    }
  }

  void admit(HttpHead& head) const {
    // Without keys and on this machine alone, pages of the web are who must not get in.
    if (!origin_allowed(head.origin, head.host, options.http.cors_origin))
      throw RequestError(403, "pages of this origin may not call; see --cors-origin");
    if (options.keys.empty() && names_loopback(options.http.host) && !names_loopback(head.host))
      throw RequestError(403, "expected a Host header of this machine");
    bool known = false, right = head.method == "OPTIONS", open = head.method == "OPTIONS";
    for (const Route& route : kRoutes) {
      if (!fits(route, head.path)) continue;
      known = true;
      right = right || head.method == route.method || (head.method == "HEAD" && route.method == kGet);
      open = open || route.open;
    }
    const auto owner = options.keys.owner(head.authorization);
    head.owner = owner.value_or("");
    if (!open && !owner)
      throw RequestError(401, "expected an API key: Authorization: Bearer KEY", {}, "invalid_api_key");
    if (!known) throw RequestError(404, "there is no such route", {}, "not_found");
    if (!right)
      throw RequestError(405, concat("this route has no ",
                                     head.method == "GET" || head.method == "POST" ? head.method : "such method"));
    if (open || state == State::ready) return;
    RequestError wait(503, state == State::loading ? "the model is being loaded" : "the server is stopping", {},
                      "not_ready");
    wait.retry_after = 1;
    throw wait;
  }

  HttpResponse health() const {
    if (state == State::ready) return {200, R"({"status":"ok"})"};
    return {503, state == State::loading ? R"({"status":"loading"})" : R"({"status":"stopping"})"};
  }

  void handle(HttpRequest&& request, std::shared_ptr<Reply> reply) override {
    const auto arrived = std::chrono::steady_clock::now();
    const bool is_large = static_cast<int64_t>(request.body.size()) > options.http.small_bytes;
    const Work kind = request.head.path == "/state" ? Work::disk : is_large ? Work::large : Work::small;
    const std::string route(route_of(request.head.path)), owner = request.head.owner;
    run(kind, owner, route, reply,
        [this, request = std::move(request), reply, arrived] { answer(request, reply, arrived); });
  }

  /// Any thread may call.
  void run(Work kind, const std::string& owner, const std::string& route, const std::shared_ptr<Reply>& reply,
           std::function<void()> work) {
    auto task = [this, route, reply, work = std::move(work)] {
      const auto error = error_of(work, 400);
      if (!error) return;
      metrics.answered(route, error->status);
      reply->send(response_of(*error));
    };
    if (kind == Work::small)
      asio::post(workers, std::move(task));
    else
      (kind == Work::large ? large : disk).post(owner, std::move(task));
  }

  // ---- on a worker, or in a lane

  ServedModel& model_named(const std::string& name) const {
    if (name.empty()) return *models.front();
    std::string names;
    for (const auto& model : models) {
      if (model->name() == name) return *model;
      names += (names.empty() ? "" : ", ") + model->name();
    }
    throw RequestError(404, concat("there is no model of this name; there is: ", names), "model", "model_not_found");
  }

  Asked asked(const HttpRequest& request, const std::shared_ptr<Reply>& reply,
              std::chrono::steady_clock::time_point arrived, const std::string& model) {
    const auto time =
        std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(options.timeout));
    const std::string route(route_of(request.head.path)), owner = request.head.owner;
    return {model_named(model),
            metrics,
            state,
            options.http.log,
            [this, owner, route, reply](Work kind, std::function<void()> work) {
              run(kind, owner, route, reply, std::move(work));
            },
            route,
            owner,
            reply,
            arrived,
            arrived + time};
  }

  void answer(const HttpRequest& request, const std::shared_ptr<Reply>& reply,
              std::chrono::steady_clock::time_point arrived) {
    if (reply->left()) throw RequestError(kClientLeft, "the client has left");
    const std::string& path = request.head.path;
    if (request.head.method != "POST") return answer_get(path, asked(request, reply, arrived, {}));
    const OrderedJson body = parse_ordered_json(request.body, "the body");
    if (!body.is_object()) throw RequestError(400, concat("the body: expected an object, found ", body.type_name()));
    const auto ask = [&](const std::string& model) { return asked(request, reply, arrived, model); };
    if (path == "/v1/completions") {
      CompletionRequest r = read_completion(body, options.limits);
      generate(ask(r.model), std::move(r), complete);
    } else if (path == "/v1/chat/completions") {
      ChatRequest r = read_chat(body, options.limits);
      generate(ask(r.model), std::move(r), chat);
    } else if (path == "/v1/embeddings") {
      embed(ask(read_embedding(body, options.limits).model), read_embedding(body, options.limits));
    } else {
      Fields fields(body);
      Asked a = ask(fields.text("model"));
      if (path == "/state") return change_states(std::move(a), body, options.limits);
      path == "/tokenize" ? tokenize(a, fields) : detokenize(a, fields);
    }
  }

  /// What goes on from a named state may have to read it, or wait for another that is being written.
  template <class Request>
  void generate(Asked&& a, Request&& request, void (*begin)(Asked&&, Request&&, const RequestLimits&)) {
    if (request.state.empty()) return begin(std::move(a), std::move(request), options.limits);
    const auto later = a.later;
    const auto held = std::make_shared<std::pair<Asked, Request>>(std::move(a), std::move(request));
    later(Work::disk, [this, held, begin] {
      check_wanted(held->first);
      begin(std::move(held->first), std::move(held->second), options.limits);
    });
  }

  void answer_get(const std::string& path, const Asked& a) {
    if (path == "/v1/models") return answer_json(a, models_json());
    if (path.starts_with(kOneModel))
      return answer_json(a, model_json(model_named(percent_decoded(std::string_view(path).substr(kOneModel.size())))));
    if (path == "/state") return list_states(a, models);
    if (path == "/tokenizer_info") return answer_json(a, tokenizer_info(a.model));
    a.reply->send({200, metrics_text(), "text/plain; version=0.0.4", {}});
  }

  void embed(Asked&& a, EmbeddingRequest&& request) {
    const auto shared = std::make_shared<const Asked>(std::move(a));
    const bool taken = embedding.post(shared->owner, [this, shared, request = std::move(request)] {
      if (const auto error = error_of([&] { embedder.answer(*shared, request); })) answer_error(*shared, *error);
    });
    if (!taken) throw queue_full(*shared);
  }

  void tokenize(const Asked& a, Fields& fields) const {
    const std::string prompt = fields.text("prompt");
    const bool special = fields.flag("add_special_tokens", true);
    fields.finish();
    std::vector<int32_t> ids = a.model.engine().encode(prompt);
    const Tokenizer& t = a.model.tokenizer();
    if (special && t.adds_bos && t.bos && (ids.empty() || ids.front() != *t.bos)) ids.insert(ids.begin(), *t.bos);
    answer_json(a, {{"tokens", ids}, {"count", ids.size()}});
  }

  void detokenize(const Asked& a, Fields& fields) const {
    const OrderedJson* list = fields.find("tokens");
    if (list == nullptr) refuse_field("tokens", "expected token ids, found nothing");
    fields.finish();
    if (!list->is_array()) fields.refuse("tokens", "a list of token ids", *list);
    const std::vector<int32_t> given = read_ids("tokens", *list);
    for (const int32_t id : given)
      if (id >= a.model.tokenizer().size())
        refuse_field("tokens", "expected token ids below ", a.model.tokenizer().size(), ", found ", id);
    answer_json(a, {{"prompt", a.model.tokenizer().decode(given)}});
  }

  static OrderedJson tokenizer_info(const ServedModel& model) {
    const Tokenizer& t = model.tokenizer();
    OrderedJson out;
    for (const char* name : {"bos_token", "eos_token", "pad_token"}) {
      const auto at = t.special_texts.find(name);
      out[name] = at == t.special_texts.end() ? OrderedJson() : OrderedJson(at->second);
    }
    if (out["eos_token"].is_null() && !t.eos.empty()) out["eos_token"] = t.piece(t.eos.front());
    if (out["bos_token"].is_null() && t.bos) out["bos_token"] = t.piece(*t.bos);
    out["chat_template"] = model.chat_template().empty() ? OrderedJson() : OrderedJson(model.chat_template());
    return out;
  }

  static OrderedJson model_json(const ServedModel& model) {
    return {{"id", model.name()},
            {"object", "model"},
            {"created", model.created()},
            {"owned_by", "qwerky"},
            {"qwerky",
             {{"context", model.capacity()},
              {"vocabulary", model.engine().vocab()},
              {"chat", !model.chat_template().empty()},
              {"state_bytes", model.state_bytes(1)},
              {"constant_state", model.engine().max_tokens() == 0},
              {"kv_cache_bytes_per_token", model.kv_bytes_per_token()}}}};
  }

  OrderedJson models_json() const {
    OrderedJson data = OrderedJson::array();
    for (const auto& model : models) data.push_back(model_json(*model));
    return {{"object", "list"}, {"data", std::move(data)}};
  }

  std::string metrics_text() const {
    std::string out;
    metrics.write(out);
    const HttpCounts h = http->counts();
    const auto plain = [&](const char* name, const char* help, const char* type, int64_t value) {
      write_metric(out, name, help, type, "", static_cast<double>(value));
    };
    plain("qwerky_connections", "Open connections", "gauge", h.connections);
    plain("qwerky_connections_total", "Connections taken", "counter", h.accepted);
    plain("qwerky_connections_refused_total", "Connections beyond the limit", "counter", h.turned_away);
    plain("qwerky_clients_slow_total", "Requests and answers cut off because the client was slow", "counter", h.slow);
    plain("qwerky_clients_left_total", "Connections that ended before their answer", "counter", h.left);
    plain("qwerky_embeddings_waiting", "Requests for embeddings, in the queue or under way", "gauge", embedding.held());
    struct Row {
      const char *name, *help, *type;
      int64_t (*value)(ServedModel&);
    };
    static constexpr Row kRows[] = {
        {"qwerky_sequences_running", "Sequences in the batch", "gauge",
         [](ServedModel& m) { return m.batcher().counts().running; }},
        {"qwerky_sequences_waiting", "Sequences in the queue", "gauge",
         [](ServedModel& m) { return m.batcher().counts().waiting; }},
        {"qwerky_sequences_finished_total", "Sequences that ended", "counter",
         [](ServedModel& m) { return m.batcher().counts().finished; }},
        {"qwerky_sequences_refused_total", "Sequences refused because the queue was full", "counter",
         [](ServedModel& m) { return m.batcher().counts().refused; }},
        {"qwerky_prompt_tokens_total", "Tokens read", "counter",
         [](ServedModel& m) { return m.batcher().counts().prompt_tokens; }},
        {"qwerky_generated_tokens_total", "Tokens written", "counter",
         [](ServedModel& m) { return m.batcher().counts().generated_tokens; }},
        {"qwerky_steps_total", "Decoder calls", "counter", [](ServedModel& m) { return m.batcher().counts().steps; }},
        {"qwerky_cache_entries", "States kept in memory", "gauge",
         [](ServedModel& m) { return m.cache().counts().entries; }},
        {"qwerky_cache_bytes", "Their bytes", "gauge", [](ServedModel& m) { return m.cache().counts().bytes; }},
        {"qwerky_cache_disk_bytes", "Bytes of states on disk", "gauge",
         [](ServedModel& m) { return m.cache().counts().disk_bytes; }},
        {"qwerky_cache_hits_total", "Prompts that began like an earlier text", "counter",
         [](ServedModel& m) { return m.cache().counts().hits; }},
        {"qwerky_cache_misses_total", "Prompts that did not", "counter",
         [](ServedModel& m) { return m.cache().counts().misses; }},
        {"qwerky_cache_reused_tokens_total", "Tokens that needed no reading", "counter",
         [](ServedModel& m) { return m.cache().counts().tokens_reused; }},
    };
    for (const Row& row : kRows) {
      bool first = true;
      for (const auto& model : models) {
        write_metric(out, row.name, first ? row.help : "", row.type,
                     concat("{model=", OrderedJson(model->name()).dump(), "}"), static_cast<double>(row.value(*model)));
        first = false;
      }
    }
    return out;
  }

  const ServerOptions options;
  const std::string page_policy = content_policy(kPage);
  Metrics metrics;
  std::atomic<State> state = State::loading;
  std::unique_ptr<HttpServer> http;
  const bool fair = options.keys.size() > 1;
  asio::thread_pool workers{kWorkers};
  // What waits is bounded by bodies: those over 64 KiB count until they are answered, also where the client has left.
  Lane large{std::numeric_limits<int64_t>::max(), fair}, disk{std::numeric_limits<int64_t>::max(), fair};
  Lane embedding{kEmbeddingQueue, fair};
  Embedder embedder;
  std::vector<std::unique_ptr<ServedModel>> models;
};

Server::Server(const ServerOptions& options) : internals_(std::make_unique<Internals>(options)) {}
Server::~Server() = default;

int Server::port() const { return internals_->http->port(); }

void Server::load(const std::vector<ServedModelOptions>& models) {
  for (ServedModelOptions model : models) {
    model.batcher.fair = model.cache.fair = internals_->fair;
    internals_->models.push_back(std::make_unique<ServedModel>(model));
  }
  internals_->state = ServerState::ready;
}

void Server::drain(double seconds) {
  internals_->state = ServerState::stopping;
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1e3));
  for (const auto& model : internals_->models) model->drain(end);
  while (internals_->embedding.held() > 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  internals_->state = ServerState::cut;
  internals_->http->drain(std::max(end, std::chrono::steady_clock::now() + kLastAnswers));
  const auto last = std::chrono::steady_clock::now() + kLastStates;
  for (const auto& model : internals_->models) model->cache().write_kept(last);
}

}  // namespace qwerky::serve
