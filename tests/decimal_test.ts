import { Decimal, isCanonicalAmount } from "../src/records/decimal.ts";
import { assertEquals, assertThrows } from "./assert.ts";

const canonical = (value: string | number) => Decimal.from(value).toString();

Deno.test("Decimal.from() normalizes plain and scientific numerals", () => {
  const forms: [string | number, string][] = [
    ["0", "0"],
    ["-0", "0"],
    ["-0.000", "0"],
    ["+1.50", "1.5"],
    ["007", "7"],
    [".5", "0.5"],
    ["5.", "5"],
    ["8e-7", "0.0000008"],
    ["1.25E+3", "1250"],
    ["0E-18", "0"],
    ["-0.000000000000000001", "-0.000000000000000001"],
    [0.1, "0.1"],
    [1e21, "1000000000000000000000"],
    [1e-7, "0.0000001"],
    [0.1 + 0.2, "0.30000000000000004"],
  ];
  for (const [given, expected] of forms) assertEquals(canonical(given), expected, String(given));
});

Deno.test("Decimal.from() rounds half to even beyond 18 fractional digits", () => {
  assertEquals(canonical("0.0000000000000000005"), "0");
  assertEquals(canonical("0.0000000000000000015"), "0.000000000000000002");
  assertEquals(canonical("0.0000000000000000025"), "0.000000000000000002");
  assertEquals(canonical("0.00000000000000000250001"), "0.000000000000000003");
  assertEquals(canonical("-0.0000000000000000015"), "-0.000000000000000002");
  assertEquals(canonical("-0.0000000000000000005"), "0");
});

Deno.test("Decimal.from() refuses texts that are not decimals", () => {
  const wrong = [
    "",
    ".",
    "-",
    "1,5",
    "1 ",
    "0x10",
    "1e",
    "1e9999",
    "NaN",
    "Infinity",
    "1_000",
    "1".repeat(300),
  ];
  for (const text of wrong) assertThrows(() => Decimal.from(text), RangeError);
  assertThrows(() => Decimal.from(NaN), RangeError);
  assertThrows(() => Decimal.from(Infinity), RangeError);
});

Deno.test("Decimal adds and subtracts exactly", () => {
  let total = Decimal.ZERO;
  for (let i = 0; i < 1000; i++) total = total.plus(Decimal.from(0.1));
  assertEquals(total.toString(), "100");
  assertEquals(total.minus(Decimal.from("100.000000000000000001")).toString(), "-0.000000000000000001");
});

Deno.test("Decimal.timesFraction() rounds half to even for either sign", () => {
  assertEquals(Decimal.from("2.50").timesFraction(1_000n, 3_600_000n).toString(), "0.000694444444444444");
  assertEquals(Decimal.from("-2").timesFraction(1n, 3n).toString(), "-0.666666666666666667");
  assertEquals(Decimal.from("1").timesFraction(-1n, -4n).toString(), "0.25");
});

Deno.test("Decimal has its value in units of 10⁻¹⁸ for either sign", () => {
  const cases: [string, bigint][] = [
    ["0", 0n],
    ["1.5", 1_500_000_000_000_000_000n],
    ["-1.5", -1_500_000_000_000_000_000n],
    ["-0.000000000000000001", -1n],
    ["999999999999999999.999999999999999999", 10n ** 36n - 1n],
  ];
  for (const [text, scaled] of cases) {
    assertEquals(Decimal.from(text).scaled, scaled);
    assertEquals(Decimal.fromParts(0n, scaled).toString(), text);
  }
});

Deno.test("isCanonicalAmount() agrees with Decimal on random numerals", () => {
  for (let i = 0; i < 2_000; i++) {
    const digits = (most: number) => String(Math.random()).slice(2, 2 + Math.floor(Math.random() * most));
    const text = `${Math.random() < 0.5 ? "-" : ""}${digits(4)}${Math.random() < 0.5 ? "." : ""}${digits(6)}`;
    let same: boolean;
    try {
      same = canonical(text) === text;
    } catch {
      same = false;
    }
    assertEquals(isCanonicalAmount(text), same, text);
  }
});
