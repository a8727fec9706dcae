// SPDX-License-Identifier: Apache-2.0
// Scans of a mapped flow table.
#pragma once
#include <napi.h>

namespace xdpilot {

void DefineFlowScan(Napi::Env env, Napi::Object exports);

}  // namespace xdpilot
