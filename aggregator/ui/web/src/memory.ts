//! What the browser keeps for the person: language and appearance. A browser that keeps nothing is fine.

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(`lapwing.${key}`);
  } catch {
    return null;
  }
}

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`lapwing.${key}`, value);
  } catch {
    // Private windows may refuse; the choice then lasts as long as the tab.
  }
}
