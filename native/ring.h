// SPDX-License-Identifier: Apache-2.0
// Ring building off the event loop.
#pragma once
#include <napi.h>

namespace xdpilot {

void DefineRing(Napi::Env env, Napi::Object exports);

}  // namespace xdpilot
