import { type Preset, table } from "./preset.ts";

/** Cost in the billing currency, by all names that the exports have had for it. */
const COST = "CostInBillingCurrency,Cost,PreTaxCost,ExtendedCost";
/** Columns that tell the charge of a commitment: its purchase, or in an amortized export its use. */
const COMMITMENT = ["PricingModel", "ChargeType"];

/** Columns of both agreements that no field takes in every export. */
const OTHERS = "AccountId|AccountName|AccountOwnerId|AdditionalInfo|AvailabilityZone|BenefitId|BenefitName" +
  "|BillingAccountName|BillingPeriod|BillingPeriodEndDate|BillingProfileId|BillingProfileName" +
  "|ConsumedService|CostAllocationRuleName|CostCenter|CostInPricingCurrency|CostInUsd" +
  "|CustomerName|CustomerTenantId|DepartmentName|EffectivePrice|ExchangeRateDate" +
  "|ExchangeRatePricingToBilling|InvoiceId|InvoiceSection|InvoiceSectionId|InvoiceSectionName" +
  "|IsAzureCreditEligible|Location|MeterId|MeterName|MeterRegion|MeterSubCategory|OfferId" +
  "|PartnerEarnedCreditApplied|PartnerEarnedCreditRate|PartnerName|PartnerTenantId|PartNumber" +
  "|PayGCostInUsd|PayGPrice|PlanName|PreviousInvoiceId|PricingCurrency|Product|ProductId" +
  "|ProductName|ProductOrderId|ProductOrderName|Provider|PublisherId|PublisherName" +
  "|PublisherType|ResellerMpnId|ResellerName|ReservationId|ReservationName|ResourceGroup" +
  "|ResourceGroupName|ResourceLocation|ResourceName|ResourceType|RoundingAdjustment" +
  "|ServiceFamily|ServiceInfo1|ServiceInfo2|ServicePeriodEndDate|ServicePeriodStartDate" +
  "|SubscriptionName|Term|UnitOfMeasure|UnitPrice";

/**
 * Cost details of Azure: actual or amortized, of an Enterprise Agreement or a Microsoft Customer Agreement. The names
 * are those of both, in any case.
 */
export const AZURE: Preset = {
  name: "azure",
  title: "Azure cost details (EA and MCA; actual and amortized)",
  documentation: [
    "https://learn.microsoft.com/azure/cost-management-billing/dataset-schema/cost-usage-details-ea",
    "https://learn.microsoft.com/azure/cost-management-billing/dataset-schema/cost-usage-details-mca",
    "https://learn.microsoft.com/cloud-computing/finops/focus/convert",
  ],
  signs: [
    ["MeterCategory", "ChargeType", "SubscriptionId", "CostInBillingCurrency"],
    ["MeterCategory", "ChargeType", "SubscriptionId", "Cost"],
  ],
  vendorColumns: OTHERS,
  fields: {
    timestamp: "Date,UsageDateTime,UsageDate",
    billingPeriodStart: "BillingPeriodStartDate",
    // The use of a commitment costs nothing when it is billed: its purchase is.
    amount: {
      by: COMMITMENT,
      cases: { "Reservation/Usage|SavingsPlan/Usage|*/Unused*": "=0", "*": COST },
    },
    effectiveCost: {
      by: COMMITMENT,
      cases: { "Reservation/Purchase|SavingsPlan/Purchase": "=0", "*": COST },
    },
    listCost: "PaygCostInBillingCurrency",
    currency: "BillingCurrency,BillingCurrencyCode,Currency",
    chargeCategory: table("ChargeType", {
      Usage: "Usage|Unused*",
      Purchase: "Purchase",
      Tax: "Tax",
      Credit: "Credit",
      Adjustment: "?*",
    }),
    chargeFrequency: table("Frequency", {
      "Usage-Based": "UsageBased",
      "Recurring": "Recurring",
      "One-Time": "OneTime",
    }),
    serviceName: "MeterCategory,ConsumedService",
    category: table("MeterCategory,ConsumedService", {
      "AI and Machine Learning":
        "Azure AI*|Azure Applied AI Services|Azure Bot Service|Azure Machine Learning|Azure OpenAI*|" +
        "Cognitive Services|Foundry*|Machine Learning*|Microsoft.CognitiveServices|Microsoft.MachineLearningServices",
      "Analytics":
        "Azure Analysis Services|Azure Data Explorer*|Azure Data Factory*|Azure Databricks|Azure Purview|" +
        "Azure Synapse Analytics|Data Lake Analytics|HDInsight|Microsoft Fabric|Microsoft Purview|Power BI*|Stream Analytics|" +
        "Event Hubs",
      "Compute":
        "Azure App Service|Azure Container Apps|Azure Container Instances|Azure Kubernetes Service|Azure Spring*|" +
        "Azure VMware Solution|Cloud Services|Container Instances|Functions|Microsoft.Compute|Specialized Compute|" +
        "Virtual Machines*|Windows Virtual Desktop|Azure Virtual Desktop|Container Registry|Service Fabric*|Batch",
      "Databases":
        "Azure Cosmos DB|Azure Database for *|Azure Managed Redis|Azure SQL*|Redis Cache|Azure Cache for Redis|" +
        "SQL Database|SQL Managed Instance|SQL Server*|SQL Data Warehouse",
      "Developer Tools":
        "Azure DevOps|Visual Studio*|GitHub*|Azure Lab Services|Load Testing|App Configuration",
      "Identity": "Azure Active Directory*|Microsoft Entra*",
      "Integration":
        "API Management|Event Grid|Logic Apps|Notification Hubs|Service Bus|Azure SignalR Service|Web PubSub",
      "Internet of Things": "Azure IoT*|Digital Twins|IoT*|Azure Maps",
      "Management and Governance":
        "Automation|Azure Arc*|Azure Monitor|Azure Policy|Azure Site Recovery|Backup|Insight*|" +
        "Log Analytics|Application Insights|Microsoft.OperationalInsights|Azure Grafana*|Support",
      "Media": "Media Services",
      "Migration": "Azure Data Box|Azure Database Migration*|Azure Migrate",
      "Networking":
        "Application Gateway|Azure Bastion|Azure DNS|Azure Firewall*|Azure Front Door*|Bandwidth|" +
        "Content Delivery Network|ExpressRoute|Load Balancer|NAT Gateway|Network Watcher|Traffic Manager|Virtual Network*|" +
        "Virtual WAN|VPN Gateway|Microsoft.Network",
      "Security":
        "Advanced Threat Protection|Azure DDOS Protection|Key Vault|Microsoft Defender*|Security Center|Sentinel|" +
        "Microsoft Sentinel|Dedicated HSM",
      "Storage": "Azure NetApp Files|Azure Storage*|Microsoft.Storage|Storage*|Managed Disks|HPC Cache",
      "Web": "Azure Cognitive Search|Azure AI Search|Azure Search|Static Web Apps",
    }, "MeterCategory,ConsumedService"),
    serviceProviderName: "=Microsoft",
    invoiceIssuerName: "=Microsoft",
    billingAccountId: "BillingAccountId,EnrollmentNumber",
    subAccountId: "SubscriptionId,SubscriptionGuid",
    resourceId: "ResourceId,InstanceId",
    resourceName: "ResourceName",
    region: "ResourceLocation,ResourceLocationNormalized,Location,MeterRegion",
    description: "ProductName,Product",
    skuId: "MeterId",
    consumedQuantity: "Quantity,UsageQuantity",
    consumedUnit: "UnitOfMeasure",
    invoiceId: "InvoiceId",
    "focus.BillingAccountName": "BillingAccountName",
    "focus.SubAccountName": "SubscriptionName",
    "focus.AvailabilityZone": "AvailabilityZone",
    "focus.CommitmentDiscountId": "BenefitId,ReservationId",
    "focus.CommitmentDiscountName": "BenefitName,ReservationName",
    "focus.x_ResourceGroupName": "ResourceGroup,ResourceGroupName",
    "focus.x_CostCenter": "CostCenter",
    "focus.x_SkuMeterName": "MeterName",
    "focus.x_SkuMeterSubcategory": "MeterSubCategory",
  },
  tags: ["Tags"],
  dateFormats: ["MM/DD/YYYY"],
};
