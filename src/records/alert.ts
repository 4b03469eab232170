/** Severity levels of OpenFinOps. */
export type AlertSeverity = "info" | "warning" | "critical" | "emergency";

/** The severities, the worst last. */
export const ALERT_SEVERITIES: readonly AlertSeverity[] = ["info", "warning", "critical", "emergency"];

/** Subject of an alert. */
export interface AlertSubject {
  /** The cluster, of system and device metrics. */
  clusterId?: string;
  /** The node within the cluster, of system and device metrics. */
  nodeId?: string;
  /** The device of the node, of device metrics. */
  deviceId?: string;
  /** The service, of service metrics. */
  serviceName?: string;
}

/** A rule that a node, a device or a service has broken for as long as the rule allows. */
export interface Alert extends AlertSubject {
  /** The id. Each rule has one alert for each node, device or service: the last one that fired. */
  alertId: string;
  /** The name of the rule. */
  rule: string;
  /** Severity. */
  severity: AlertSeverity;
  /** Description. */
  description: string;
  /** The field of the metrics. */
  field: string;
  /** The value with which it fired. */
  value: number | string | boolean;
  /** Since when the condition has held, in epoch milliseconds. */
  since: number;
  /** Time at which it fired, by the metrics that broke the rule. */
  firedAt: number;
  /** Time at which the condition ended; absent while it is active. */
  resolvedAt?: number;
  /** Time of the acknowledgement. */
  acknowledgedAt?: number;
  /** Name of the person who acknowledged it. */
  acknowledgedBy?: string;
}
