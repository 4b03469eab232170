import { createPrivateKey, X509Certificate } from "node:crypto";
import { ConfigError, messageOf } from "../errors.ts";
import { cannotRead } from "../named_file.ts";

/** A certificate chain and its key, as PEM. */
export interface Certificate {
  /** Chain, the certificate of the server first. */
  readonly cert: string;
  /** Private key. */
  readonly key: string;
}

export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** Time between looks at the files, in milliseconds: they may be links that are replaced, as in Kubernetes. */
const CHECK_MS = 5_000;

/**
 * Reads a certificate, and checks that the key belongs to it.
 *
 * @throws {ConfigError} If it cannot be used.
 */
export async function readCertificate({ certFile, keyFile }: CertificateFiles): Promise<Certificate> {
  const read = async (path: string, what: string) => {
    return await Deno.readTextFile(path).catch((error) => {
      throw cannotRead(error, path, what);
    });
  };
  const [cert, key] = await Promise.all([read(certFile, "the certificate"), read(keyFile, "the key")]);
  try {
    if (new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) return { cert, key };
    throw new Error("the key does not belong to the certificate");
  } catch (error) {
    throw new ConfigError(
      `Cannot use the certificate ${certFile} with the key ${keyFile}: ${
        messageOf(error)
      }. Correct the files.`,
      { code: "INVALID_FILE" },
    );
  }
}

/** Calls back when the files hold another certificate; `onFault` once for each that cannot be used. */
export function watchCertificate(
  files: CertificateFiles,
  current: Certificate,
  { onChange, onFault, everyMs = CHECK_MS }: {
    onChange: (certificate: Certificate) => void;
    onFault: (error: unknown) => void;
    everyMs?: number;
  },
): Disposable {
  let fault: string | undefined;
  let isChecking = false;
  const check = async () => {
    if (isChecking) return;
    isChecking = true;
    try {
      const read = await readCertificate(files);
      fault = undefined;
      if (read.cert === current.cert && read.key === current.key) return;
      current = read;
      onChange(read);
    } catch (error) {
      if (fault === messageOf(error)) return;
      fault = messageOf(error);
      onFault(error);
    } finally {
      isChecking = false;
    }
  };
  const timer = setInterval(check, everyMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
