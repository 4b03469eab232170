import type { Preset } from "./preset.ts";

/** Costs of the OpenAI API, as its costs endpoint or the export of its dashboard has them. */
export const OPENAI: Preset = {
  name: "openai",
  title: "OpenAI costs (API pages as JSON, or CSV)",
  documentation: ["https://platform.openai.com/docs/api-reference/usage/costs"],
  signs: [["amount.value", "amount.currency", "line_item", "start_time"]],
  lists: ["data", "results"],
  fields: {
    timestamp: "start_time,start_time_iso",
    chargePeriodEnd: "end_time,end_time_iso",
    amount: "amount.value",
    effectiveCost: "amount.value",
    currency: "upper(amount.currency)",
    chargeCategory: "=Usage",
    serviceName: "=OpenAI API",
    category: "=AI and Machine Learning",
    serviceSubcategory: "=Generative AI",
    serviceProviderName: "=OpenAI",
    invoiceIssuerName: "=OpenAI",
    billingAccountId: "organization_id",
    subAccountId: "project_id",
    resourceId: "project_id",
    resourceName: "project_name",
    description: "line_item",
    skuId: "line_item",
    consumedQuantity: "quantity",
  },
  skipsWithout: ["amount"],
};
