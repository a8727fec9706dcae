// SPDX-License-Identifier: Apache-2.0
// What the host offers and Node does not: sd_notify, peer credentials, network namespaces, libbpf's facts.
#pragma once
#include <napi.h>

namespace xdpilot {

void DefineHost(Napi::Env env, Napi::Object exports);

}  // namespace xdpilot
