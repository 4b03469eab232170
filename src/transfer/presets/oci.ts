import { type Preset, table } from "./preset.ts";

/** Cost reports of Oracle Cloud Infrastructure. */
export const OCI: Preset = {
  name: "oci",
  title: "Oracle Cloud Infrastructure cost reports",
  documentation: ["https://docs.oracle.com/iaas/Content/Billing/Concepts/costusagereportsoverview.htm"],
  signs: [["lineItem/intervalUsageStart", "product/service", "cost/myCost", "cost/currencyCode"]],
  vendorColumns: "lineItem/*|product/*|usage/*|cost/*",
  fields: {
    timestamp: "lineItem/intervalUsageStart",
    chargePeriodEnd: "lineItem/intervalUsageEnd",
    amount: "cost/myCost",
    effectiveCost: "cost/myCost",
    currency: "cost/currencyCode",
    chargeCategory: "=Usage",
    chargeClass: table("lineItem/isCorrection", { Correction: "true" }),
    serviceName: "product/service",
    category: table("product/service", {
      "AI and Machine Learning":
        "GENERATIVE_AI*|GENAI*|DATA_SCIENCE|DATASCIENCE|AI_*|ANOMALY_DETECTION|DIGITAL_ASSISTANT",
      "Analytics": "ANALYTICS*|BIG_DATA*|DATA_FLOW|DATAFLOW|DATA_CATALOG|*STREAMING*|OPENSEARCH",
      "Compute": "COMPUTE*|CONTAINER*|OKE|KUBERNETES*|FUNCTIONS|FAAS|VMWARE*|OCVS",
      "Databases": "DATABASE*|AUTONOMOUS*|MYSQL*|NOSQL*|POSTGRESQL*|REDIS*|EXADATA*|GOLDENGATE*",
      "Integration": "API_GATEWAY|INTEGRATION*|QUEUE|NOTIFICATIONS|ONS",
      "Management and Governance":
        "TELEMETRY|MONITORING|LOGGING*|APM*|STACK_MONITORING|OPERATIONS_INSIGHTS|EVENTS",
      "Networking": "NETWORK*|VCN*|DNS*|FAST_CONNECT|FASTCONNECT|LOAD_BALANCER*|LBAAS|WAA",
      "Security": "VAULT*|KMS*|WAF|BASTION|CLOUD_GUARD|DATA_SAFE|CERTIFICATES",
      "Storage": "BLOCK_STORAGE|OBJECT_STORAGE|OBJECTSTORE|FILE_STORAGE|ARCHIVE_STORAGE|STORAGE*",
    }, "product/service"),
    serviceProviderName: "=Oracle",
    invoiceIssuerName: "=Oracle",
    billingAccountId: "cost/subscriptionId,lineItem/tenantId",
    subAccountId: "product/compartmentId",
    resourceId: "product/resourceId",
    region: "product/region",
    description: "product/Description",
    skuId: "cost/productSku",
    consumedQuantity: "usage/billedQuantity",
    consumedUnit: "cost/skuUnitDescription",
    "focus.SubAccountName": "product/compartmentName",
    "focus.AvailabilityZone": "product/availabilityDomain",
    "focus.ListUnitPrice": "cost/unitPrice",
    "focus.x_Overage": "cost/overageFlag",
  },
  tags: ["tags/*"],
  skipsWithout: ["amount"],
};
