/**
 * Chromium for tests and screenshots. The packages are large, so they are in no lock file: programs that use this run with
 * `--no-lock`.
 *
 * @module
 */
const CHROMIUM = "npm:@sparticuz/chromium@153.0.0";
const PLAYWRIGHT = "npm:playwright-core@1.65.1";

/** Page of a browser, as far as it is used here. */
// deno-lint-ignore no-explicit-any
export type Page = any;

/** A browser. */
export interface Browser extends AsyncDisposable {
  /** Opens a page in a profile of its own. */
  open(options?: object): Promise<Page>;
}

/**
 * Starts Chromium.
 *
 * @throws {Error} If this machine has none.
 */
export async function openBrowser(): Promise<Browser> {
  if (Deno.build.os !== "linux") throw new Error(`${CHROMIUM} runs on Linux only.`);
  const { default: chromium } = await import(CHROMIUM);
  const { chromium: driver } = await import(PLAYWRIGHT);
  const browser = await driver.launch({
    executablePath: await chromium.executablePath(),
    args: ["--no-sandbox", "--disable-gpu", "--headless=shell", "--font-render-hinting=none"],
  });
  return {
    async open(options = {}) {
      const context = await browser.newContext({
        viewport: { width: 1280, height: 900 },
        locale: "en-US",
        ...options,
      });
      return await context.newPage();
    },
    [Symbol.asyncDispose]: () => browser.close(),
  };
}

/** Opens an address within the page, and waits until all of it is drawn. */
export async function goTo(page: Page, address: string): Promise<void> {
  await page.goto(address);
  await settle(page);
}

/** Evaluates an expression, which the policy of a page keeps others from doing. */
export async function evaluate<T>(page: Page, expression: string): Promise<T> {
  const session = await page.context().newCDPSession(page);
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression,
    returnByValue: true,
    awaitPromise: true,
  });
  await session.detach();
  if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
  return result.value;
}

/** Waits until no part of the page is loading. */
export async function settle(page: Page): Promise<void> {
  await page.waitForFunction(
    () => {
      // deno-lint-ignore no-explicit-any
      const { document, location } = globalThis as any;
      const main = document.querySelector("main");
      return main?.dataset.address === location.hash && main.querySelector("section") &&
        !main.querySelector('[aria-busy="true"]');
    },
    undefined,
    { timeout: 120_000 },
  );
}
