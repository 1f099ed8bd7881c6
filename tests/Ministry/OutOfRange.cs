using Google.Protobuf.WellKnownTypes;
using Ministries.Custody.V1;
using Ministries.Sealing;
using Ministries.Types.V1;
using static Ministries.Ministry.Tests.Services;

namespace Ministries.Ministry.Tests;

/// <summary>Sealed data with an impossible time. The client refuses to seal them, so they are sealed without the client.</summary>
public static class OutOfRange
{
    /// <summary>The part of the data that is as its contract declares it.</summary>
    public const string Place = "An invented place";

    private const string Hq = "ua/coordination-hq";

    /// <summary>Registers a prisoner and notifies his data to the Central Tracing Agency.</summary>
    /// <returns>The prisoner's reference.</returns>
    public static async Task<string> Notify(Services services, Timestamp captured)
    {
        using var hq = services.As(Hq);
        var register = new RegisterPrisonerRequest
        {
            Actor = Services.Actor,
            Etag = (await hq.Custody.GetCaseAsync(new() { Case = services.Case }, cancellationToken: Cancel)).Etag,
            Case = services.Case,
            Status = CustodyState.Registered,
            CaptureTime = DateTimeOffset.UtcNow.AddDays(-2).ToTimestamp(),
        };
        await hq.Seal(register, Identity, Cancel);
        var prisoner = (await hq.Custody.RegisterPrisonerAsync(register, cancellationToken: Cancel)).Prisoner;
        var seen = await hq.Custody.GetPrisonerAsync(new() { Case = services.Case, Prisoner = prisoner }, cancellationToken: Cancel);
        var notify = new NotifyBureauRequest
        {
            RequestId = MinistryClient.NewRequestId(),
            Actor = Services.Actor,
            Etag = seen.Etag,
            Case = services.Case,
            Prisoner = prisoner,
            Disclosure = Disclosure.Withheld,
            DisclosureReason = "family-at-risk",
            PowersOfOrigin = { "KP" },
            ConsultedObserver = "icrc",
            ReviewTime = DateTimeOffset.UtcNow.AddDays(30).ToTimestamp(),
        };
        var now = DateTimeOffset.UtcNow.ToTimestamp();
        notify.Data = Sealer.Seal(
            new BureauData
            {
                Capture = new CaptureCard { CaptureTime = captured, CapturePlace = Place },
            },
            new(notify.Case, notify.RequestId, "data", Hq),
            [.. ((string[])[Hq, "icrc"]).Select(id => Recipient.Of(hq.Agreement.Participants.First(p => p.Id == id), now, "data"))]
        );
        await hq.Custody.NotifyBureauAsync(notify, cancellationToken: Cancel);
        return prisoner;
    }
}
