using System.Collections.Frozen;
using Microsoft.AspNetCore.Authorization;

namespace Ministries.Gateway;

/// <summary>The roles of the gateway's callers, and the RPCs that each may call. Everything else is denied, also a new RPC until a grant
/// names it. The roles only narrow the agreement's grants to the participant, which the services check again.</summary>
public static class Roles
{
    /// <summary>Reads records and prepares drafts.</summary>
    public const string Clerk = "clerk";

    /// <summary>Makes the participant's writes, except those that bind it for good.</summary>
    public const string Official = "official";

    /// <summary>Makes the writes that bind the participant for good, or open personal data to others.</summary>
    public const string Approver = "approver";

    /// <summary>Reads records, ledgers and what became of each write; writes nothing.</summary>
    public const string Auditor = "auditor";

    /// <summary>Looks after the gateway itself; sees no record.</summary>
    public const string Administrator = "administrator";

    /// <summary>All of them, in the order of the matrix.</summary>
    public static readonly IReadOnlyList<string> All = [Clerk, Official, Approver, Auditor, Administrator];

    private const string Readers = "clerk official approver auditor",
        CallLog = "ministries.calllog.v1.CallLogService",
        Custody = "ministries.custody.v1.CustodyService",
        Consular = "ministries.consular.v1.ConsularService",
        Ledger = "ministries.ledger.v1.LedgerService",
        Operations = "ministries.operations.v1.OperationsService",
        Own = "gateway";

    private static readonly (string Roles, string Service, string Methods)[] Grants =
    [
        (Readers, CallLog, "GetCall ListCalls"),
        (Official, CallLog, "LogCall SubmitReadout AmendReadout ContestReadout LinkCalls SettleCommitment CorrectRecord"),
        (Readers, Custody, "GetCase ListCases GetPrisoner ListPrisoners GetStatement ListStatements CheckAttestation"),
        (
            Official,
            Custody,
            "OpenCase AdmitParty RemoveParty CloseCase ReopenCase RegisterPrisoner RecordStatus RecordProceedings AnnounceMove RecordClaim "
                + "RecordStatement AttestStatement RevokeAttestation RecordRiskAssessment RecordFitness NotifyBureau LinkDuplicate ConfirmDuplicate CorrectRecord"
        ),
        (Readers, Consular, "GetAccess ListAccesses GetPlaceVisit ListPlaceVisits GetTransfer ListTransfers"),
        ("clerk official", Consular, "DraftTransferRequest DiscardDraft"),
        (
            Official,
            Consular,
            "RequestAccess DecideAccess NotifyVisit RecordVisit CloseAccess NotifyPlaceVisit RecordPlaceVisit SubmitTransferRequest BeginReview "
                + "RecordTransfereeAssessment ScheduleHandover AbortHandover SuspendTransfer WithdrawTransferRequest ReportTreatmentFailure "
                + "RecordCorrectiveMeasures RequestReturn WithdrawReturn CloseTransfer CorrectRecord"
        ),
        (Approver, Consular, "GiveAssurance DecideTransfer BeginTransit ConfirmHandover ResumeTransfer ConfirmReturn"),
        (Auditor, Ledger, "GetEntry FollowEntries GetInclusionProof GetConsistencyProof"),
        ("auditor administrator", Ledger, "GetCheckpoint"),
        ("official approver", Ledger, "GetSealed"),
        (Approver, Ledger, "ShareSealed PermitDisclosure"),
        (Administrator, Operations, "GetStatus ListDeadLetters ReplayDeadLetter"),
        (Readers, Own, "outbox events"),
        (Administrator, Own, "webhooks replay"),
        ("clerk official approver auditor administrator", Own, "status"),
    ];

    private static readonly FrozenDictionary<string, string[]> ByName = Grants
        .SelectMany(g => g.Methods.Split(' ').Select(m => (Name: $"{g.Service}/{m}", Roles: g.Roles.Split(' '))))
        .ToFrozenDictionary(g => g.Name, g => g.Roles);

    /// <summary>All that can be granted: each RPC of the contracts, by its full name, and what the gateway itself serves, such as
    /// <c>gateway/outbox</c>.</summary>
    public static IEnumerable<string> Names =>
        Methods.Names.Concat(ByName.Keys.Where(n => n.StartsWith(Own, StringComparison.Ordinal))).Order(StringComparer.Ordinal);

    /// <summary>The roles that may do something; none: nobody may.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    public static IReadOnlyList<string> Of(string name) => ByName.GetValueOrDefault(name) ?? [];

    /// <summary>The name of the policy of something that can be granted.</summary>
    internal static string PolicyOf(string name) => name;

    /// <summary>Registers a policy for each name. The fallback denies: an endpoint without a policy is for nobody.</summary>
    internal static void AddPolicies(AuthorizationOptions options)
    {
        foreach (var name in Names)
            options.AddPolicy(PolicyOf(name), Of(name) is { Count: > 0 } roles ? Any(roles) : Nobody);
        options.DefaultPolicy = options.FallbackPolicy = Nobody;
    }

    private static AuthorizationPolicy Any(IEnumerable<string> roles) =>
        new AuthorizationPolicyBuilder().RequireAuthenticatedUser().RequireRole(roles).Build();

    // A requirement that no request meets.
    private static AuthorizationPolicy Nobody { get; } = new AuthorizationPolicyBuilder().RequireAssertion(_ => false).Build();
}
