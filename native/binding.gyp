# SPDX-License-Identifier: Apache-2.0
{
	"targets": [
		{
			"target_name": "xdpilot",
			"sources": [
				"addon.cc",
				"error.cc",
				"arguments.cc",
				"object.cc",
				"map.cc",
				"map_work.cc",
				"program.cc",
				"link.cc",
				"ring.cc",
				"maglev.cc",
				"flow_scan.cc",
				"host.cc"
			],
			"include_dirs": [],
			"defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS", "_GNU_SOURCE"],
			"cflags_cc": [
				"-std=c++17",
				"-O2",
				"-fno-exceptions",
				"-fvisibility=hidden",
				"-Wall",
				"-Wextra",
				"-Werror",
				"-isystem",
				"<(module_root_dir)/../node_modules/node-addon-api"
			],
			"libraries": ["-lbpf", "-pthread"]
		}
	]
}
