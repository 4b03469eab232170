import { type Preset, table } from "./preset.ts";

/** Google Cloud Billing export of BigQuery, as JSON. */
export const GCP: Preset = {
  name: "gcp",
  title: "Google Cloud Billing export (standard and detailed)",
  documentation: [
    "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage",
    "https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/detailed-usage",
  ],
  signs: [["billing_account_id", "service.description", "usage_start_time", "cost", "currency"]],
  vendorColumns:
    "adjustment_info.*|consumption_model.*|invoice.*|location.*|price.*|project.*|resource.*|service.*" +
    "|sku.*|subscription.*|usage.*|cost_at_*|currency_conversion_rate|export_time|transaction_type",
  fields: {
    timestamp: "usage_start_time",
    chargePeriodEnd: "usage_end_time",
    billingPeriodStart: "month(invoice.month)",
    amount: "cost",
    effectiveCost: "cost",
    listCost: "cost_at_list",
    currency: "currency",
    chargeCategory: table("cost_type", {
      Usage: "|regular",
      Tax: "tax",
      Adjustment: "*",
    }),
    serviceName: "service.description",
    category: table("service.description", {
      "AI and Machine Learning":
        "Vertex AI*|Gemini*|Cloud AutoML|Cloud Machine Learning Engine|Cloud Natural Language|" +
        "Cloud Vision API|Cloud Speech API|Cloud Text-to-Speech API|Cloud Translation|Translate|Cloud Video Intelligence API|" +
        "Cloud Document AI API|Dialogflow*|Cloud Dialogflow API|Notebooks|Recommendations AI|Cloud TPU|Claude*|Llama*|Mistral*",
      "Analytics":
        "BigQuery*|Cloud Composer|Cloud Dataflow|Cloud Data Fusion|Cloud Dataproc|Dataproc*|Data Catalog|Dataform|" +
        "Dataplex|Looker*",
      "Compute":
        "App Engine|Cloud Functions|Cloud Run*|Compute Engine|Kubernetes Engine|VMware Engine|Backup for GKE|Batch|" +
        "Anthos*|Artifact Registry|Container Registry*|Confidential Computing",
      "Databases":
        "AlloyDB|Cloud Bigtable|Cloud Firestore|Cloud Memorystore*|Cloud Spanner|Cloud SQL|Datastream|" +
        "Firebase Realtime Database|Cloud Datastore",
      "Developer Tools":
        "Cloud Build|Cloud Scheduler|Cloud Tasks|Source Repository|Workflows|Cloud Deploy|Cloud Workstations",
      "Identity": "Identity Platform|Firebase Auth|Cloud Identity*",
      "Integration":
        "API Gateway|Apigee|Cloud Pub/Sub|Pub/Sub Lite|Eventarc|Application Integration|Maps*|Places*|*Maps API",
      "Management and Governance":
        "Cloud Logging|Cloud Monitoring|Stackdriver*|Support|Enterprise Agreement|VM Manager",
      "Migration": "BigQuery Data Transfer Service|Transfer Appliance|Database Migration",
      "Networking":
        "Cloud CDN|Cloud DNS|Cloud NAT|Networking|Network Intelligence Center|Cloud Interconnect|Cloud Load*",
      "Security":
        "Binary Authorization|Certificate Authority Service|Cloud Armor|Cloud Data Loss Prevention|Cloud IDS|" +
        "Cloud Key Management Service (KMS)|Secret Manager|Security Command Center|reCAPTCHA Enterprise|Web Risk|" +
        "BeyondCorp Enterprise",
      "Storage": "Cloud Filestore|Cloud Storage|Transfer Service|Backup and DR*",
    }, "service.description"),
    serviceProviderName: "=Google Cloud",
    invoiceIssuerName: "seller_name,=Google Cloud",
    billingAccountId: "billing_account_id",
    subAccountId: "project.id",
    resourceId: "resource.global_name,resource.name",
    resourceName: "resource.name",
    region: "location.region,location.location",
    description: "sku.description",
    skuId: "sku.id",
    consumedQuantity: "usage.amount",
    consumedUnit: "usage.unit",
    pricingQuantity: "usage.amount_in_pricing_units",
    pricingUnit: "usage.pricing_unit",
    "focus.SubAccountName": "project.name",
    "focus.AvailabilityZone": "location.zone",
    "focus.x_CostType": "cost_type",
  },
  tags: ["project.labels", "labels"],
  parts: {
    list: "credits",
    fields: {
      amount: "amount",
      effectiveCost: "amount",
      listCost: "=0",
      chargeCategory: "=Credit",
      description: "full_name,name",
      consumedQuantity: "",
      consumedUnit: "",
      pricingQuantity: "",
      pricingUnit: "",
      "focus.x_CreditId": "id",
      "focus.x_CreditType": "type",
    },
  },
};
