// SPDX-License-Identifier: MIT
// Requests as what the batcher runs: prompts become ids, conversations go through the chat template.
#pragma once

#include "serve/exchange.h"

namespace qwerky::serve {

/// Throw RequestError (or Error: the request is wrong) before anything is answered.
void complete(Asked&& asked, CompletionRequest&& request, const RequestLimits& limits);
void chat(Asked&& asked, ChatRequest&& request, const RequestLimits& limits);

}  // namespace qwerky::serve
