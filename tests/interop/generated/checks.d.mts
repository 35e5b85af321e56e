// Types of the parts of ../node/checks.mjs that the scripts of this folder use.

export const issuer: string;
export function check(name: string, body: () => Promise<void>): Promise<void>;
export function register(): Promise<{ id: string; secret: string }>;
