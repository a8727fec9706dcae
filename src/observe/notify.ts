// SPDX-License-Identifier: Apache-2.0
// What the service manager is told (sd_notify(3)). Without $NOTIFY_SOCKET nothing is sent. Node can't open datagram
// sockets of the Unix kind, so the sender is handed in: the addon's sdNotify.

/** Sends one message; false when nobody listens. */
export type NotifySender = (state: string) => boolean;

/** Messages to the service manager; a failed send is never an error of the daemon's. */
export class ServiceNotifier {
	readonly #send: NotifySender;
	readonly #monotonicUsec: () => bigint;
	/** The status line that was sent last, so that an unchanged one costs nothing. */
	#status = '';

	/** @param monotonicUsec CLOCK_MONOTONIC in microseconds; systemd matches a reload's messages by it */
	constructor(send: NotifySender, monotonicUsec: () => bigint = () => process.hrtime.bigint() / 1000n) {
		this.#send = send;
		this.#monotonicUsec = monotonicUsec;
	}

	/** The adopted or first applied state forwards. */
	ready(status: string): void {
		this.#status = line(status);
		this.#notify(`READY=1\nSTATUS=${this.#status}`);
	}

	/** One line for `systemctl status`. */
	status(status: string): void {
		if (line(status) === this.#status) return;
		this.#status = line(status);
		this.#notify(`STATUS=${this.#status}`);
	}

	/** A reload has begun; ready() ends it, also when the new configuration was refused. */
	reloading(): void {
		this.#notify(`RELOADING=1\nMONOTONIC_USEC=${this.#monotonicUsec()}`);
	}

	stopping(status: string): void {
		this.#notify(`STOPPING=1\nSTATUS=${line(status)}`);
	}

	/** Proof of life; sent from the reconcile loop, so that a stuck loop is noticed. */
	watchdog(): void {
		this.#notify('WATCHDOG=1');
	}

	#notify(state: string): void {
		try {
			this.#send(state);
		} catch {
			// The manager is gone or restarting. Forwarding doesn't depend on it, and the next message tries again.
		}
	}
}

/**
 * Milliseconds between proofs of life: half of what the manager allows this process; undefined when it watches none
 * (sd_watchdog_enabled(3)).
 */
export function watchdogInterval(environment: Readonly<Record<string, string | undefined>>, pid: number): number | undefined {
	const usec = Number(environment.WATCHDOG_USEC);
	const meant = environment.WATCHDOG_PID;
	if (!Number.isSafeInteger(usec) || usec <= 0 || (meant !== undefined && Number(meant) !== pid)) return undefined;
	return usec / 2000;
}

/** A newline would begin another variable of the message. */
function line(text: string): string {
	return text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ').slice(0, 500);
}
