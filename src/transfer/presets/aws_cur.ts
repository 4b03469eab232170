import { type Preset, table } from "./preset.ts";

/** Cost as billed: after private discounts where the report has net columns. */
const COST = "line_item_net_unblended_cost,line_item_unblended_cost";

const DISCOUNT = "orZero(line_item_net_unblended_cost),line_item_unblended_cost";

/** The codes of AWS Marketplace say nothing; models that Bedrock serves for others are sold there. */
const MARKETPLACE = table(
  "product_product_name,product.product_name",
  { "AI and Machine Learning": "*Bedrock*" },
  "line_item_product_code,product_servicecode",
);

/** AWS Cost and Usage Report. The names are those of 2.0; those of legacy reports differ in case and punctuation. */
export const AWS_CUR: Preset = {
  name: "aws-cur",
  title: "AWS Cost and Usage Report 2.0, and legacy",
  documentation: [
    "https://docs.aws.amazon.com/cur/latest/userguide/table-dictionary-cur2.html",
    "https://docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html",
  ],
  signs: [["line_item_line_item_type", "line_item_unblended_cost", "line_item_usage_start_date"]],
  vendorColumns:
    "identity_*|bill_*|line_item_*|pricing_*|product_*|reservation_*|savings_plan_*|split_line_item_*" +
    "|identity/*|bill/*|lineItem/*|pricing/*|product/*|reservation/*|savingsPlan/*|splitLineItem/*" +
    "|product|discount",
  fields: {
    timestamp: "line_item_usage_start_date,bill_billing_period_start_date",
    chargePeriodEnd: "line_item_usage_end_date",
    billingPeriodStart: "bill_billing_period_start_date",
    billingPeriodEnd: "bill_billing_period_end_date",
    // Where net costs are after discounts, lines of discounts must not count them again.
    amount: {
      by: "line_item_line_item_type",
      cases: { "*Discount": DISCOUNT, "*": COST },
    },
    currency: "line_item_currency_code",
    // Commitments are spread over what they cover; what they leave unused is at their own line.
    effectiveCost: {
      by: "line_item_line_item_type",
      cases: {
        "SavingsPlanNegation|SavingsPlanUpfrontFee": "=0",
        "SavingsPlanCoveredUsage":
          "savings_plan_net_savings_plan_effective_cost,savings_plan_savings_plan_effective_cost",
        "SavingsPlanRecurringFee": "savings_plan_total_commitment_to_date - savings_plan_used_commitment",
        "DiscountedUsage": "reservation_net_effective_cost,reservation_effective_cost",
        "RIFee":
          "reservation_unused_amortized_upfront_fee_for_billing_period + reservation_unused_recurring_fee",
        "*Discount": DISCOUNT,
        "*": COST,
      },
    },
    listCost: "pricing_public_on_demand_cost",
    // A negation cancels the usage that a savings plan covers, so it is usage, too.
    chargeCategory: table("line_item_line_item_type", {
      Usage: "Usage|DiscountedUsage|SavingsPlanCoveredUsage|SavingsPlanNegation",
      Purchase: "Fee|RIFee|SavingsPlan*Fee",
      Tax: "Tax",
      Credit: "Credit|*Discount",
      Adjustment: "Refund|*",
    }),
    chargeFrequency: table("line_item_line_item_type", {
      "Usage-Based": "*Usage|SavingsPlanNegation",
      "Recurring": "RIFee|SavingsPlanRecurringFee",
      "One-Time": "*",
    }),
    serviceName: "line_item_product_code,product_servicecode",
    category: table("line_item_product_code,product_servicecode", {
      "AI and Machine Learning":
        "AmazonBedrock*|AmazonSageMaker*|AmazonQ|AmazonQDeveloper|AmazonA2I|AmazonCodeWhisperer|" +
        "AmazonComprehend*|comprehend*|AmazonDevOpsGuru|AmazonEI|AmazonForecast|AmazonFraudDetector|AmazonHealthLake|" +
        "AmazonKendra|AmazonLex|AmazonLookout*|AmazonMonitron|AmazonOmics|AmazonPersonalize|AmazonPolly|AmazonRekognition|" +
        "AmazonTextract|AmazonTranscribe|AmazonTranslate|transcribe|translate|AWSDeepRacer|AWSPanorama",
      "Analytics":
        "AmazonAthena|AmazonCloudSearch|AmazonES|AmazonFinSpace|AmazonKinesis|AmazonKinesisAnalytics|" +
        "AmazonKinesisFirehose|AmazonMSK|AmazonQuickSight|AmazonDataZone|AWSCleanRooms|AWSDataExchange|AWSEntityResolution|" +
        "AWSGlue*|AWSLakeFormation|ElasticMapReduce|datapipeline",
      "Business Applications":
        "A4B|AmazonChime*|AmazonConnect|AmazonHoneycode|AmazonPinpoint|AmazonSES|AmazonWorkDocs|" +
        "AmazonWorkMail|AWSSupplyChain|AWSWickr|ContactLensAmazonConnect|CustomerProfiles",
      "Compute":
        "AmazonEC2|AmazonECS|AmazonEKS|AmazonECR|AmazonECRPublic|AmazonLightsail|AmazonAppStream|AmazonWorkSpaces*|" +
        "AWSAppRunner|AWSBatch|AWSElasticBeanstalk|AWSLambda|AWSOutposts|ComputeSavingsPlans|MachineLearningSavingsPlans|" +
        "SimSpaceWeaver|VMwareCloudOnAWS|AWSParallelComputingService|ROSA",
      "Databases":
        "AmazonDocDB|AmazonDynamoDB|AmazonDAX|AmazonElastiCache|AmazonMCS|AmazonMemoryDB|AmazonNeptune|AmazonRDS|" +
        "AmazonRedshift|AmazonTimestream|AmazonSimpleDB|AmazonAuroraDSQL",
      "Developer Tools":
        "AmazonCodeCatalyst|AWSAmplify|AWSAppSync|AWSCloud9|AWSCode*|AWSDeviceFarm|AWSXRay|AWSCloudShell|CodeBuild|" +
        "CodeCatalyst|CodeGuru",
      "Identity": "AmazonCognito*|AmazonVerifiedPermissions|AWSDirectoryService|AWSIAM*",
      "Integration":
        "AmazonMQ|AmazonMWAA|AmazonSNS|AmazonStates|AmazonSWF|AmazonEventBridge|AWSEvents|AWSQueueService|" +
        "AppFlow|AWSAppFabric|AWSB2Bi",
      "Internet of Things": "AWSIoT*|AWSGreengrass|IoT*",
      "Management and Governance":
        "AmazonCloudWatch|AmazonGrafana|AmazonPrometheus|AWSBillingConductor|AWSBudgets|" +
        "AWSCloudFormation|AWSCloudTrail|AWSConfig|AWSCostExplorer|AWSDeveloperSupport|AWSEnterpriseSupport|AWSResilienceHub|" +
        "AWSServiceCatalog|AWSSupport*|AWSSystemsManager|OpsWorks",
      "Media": "AmazonETS|AmazonIVS*|AmazonKinesisVideo|AWSElemental*|AWSMediaConnect|nimble",
      "Migration":
        "AWSApplicationMigrationSvc|AWSDatabaseMigrationSvc|AWSDataSync|AWSM2|AWSMigrationHub*|AWSTransfer",
      "Networking":
        "AmazonApiGateway|AmazonCloudFront|AmazonRoute53|AmazonVPC|AmazonVPCLattice|AWSCloudMap|AWSCloudWAN|" +
        "AWSDataTransfer|AWSDirectConnect|AWSELB|AWSGlobalAccelerator|AWSPrivate5G",
      "Security":
        "AmazonDetective|AmazonGuardDuty|AmazonInspector*|AmazonMacie|AmazonSecurityLake|auditmanager|AWSAuditManager|" +
        "AWSCertificateManager|AWSFMS|AWSNetworkFirewall|AWSSecretsManager|AWSSecurityHub|AWSShield|awskms|awswaf|CloudHSM",
      "Storage":
        "AmazonEBS|AmazonEFS|AmazonFSx|AmazonGlacier|AmazonS3*|AWSBackup|AWSElasticDisasterRecovery|" +
        "AWSStorageGateway*|IngestionServiceSnowball|SnowballExtraDays",
    }, MARKETPLACE),
    serviceProviderName: "=AWS",
    invoiceIssuerName: "bill_invoicing_entity,=AWS",
    billingAccountId: "bill_payer_account_id",
    subAccountId: "line_item_usage_account_id",
    resourceId: "line_item_resource_id",
    region: "product_region_code,product_region",
    description: "line_item_line_item_description",
    skuId: "product_sku",
    consumedQuantity: "line_item_usage_amount",
    consumedUnit: "pricing_unit",
    invoiceId: "bill_invoice_id",
    "focus.AvailabilityZone": "line_item_availability_zone",
    "focus.BillingAccountName": "bill_payer_account_name",
    "focus.SubAccountName": "line_item_usage_account_name",
    "focus.CommitmentDiscountId": "savings_plan_savings_plan_a_r_n,reservation_reservation_a_r_n",
    "focus.x_Operation": "line_item_operation",
    "focus.x_UsageType": "line_item_usage_type",
  },
  tags: ["resource_tags", "resource_tags_*", "resourceTags/*"],
};
