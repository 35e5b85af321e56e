// Types of ../node/checks.mjs, as far as the scripts here use it.

export const issuer: string;
export function check(name: string, body: () => Promise<void>): Promise<void>;
export function register(): Promise<{ id: string; secret: string }>;
