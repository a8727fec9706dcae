// SPDX-License-Identifier: Apache-2.0
// Prints the path of a real Consul server, fetching it from Debian into the cache folder when there is none.
import { main } from './registry-servers.mjs';

main('consul');
