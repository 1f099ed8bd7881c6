using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Fixtures;

/// <summary>Events of custody for a service that keeps a copy of the cases, in tests without custody.</summary>
public static class CustodyEvents
{
    /// <summary>Records one in the service's ledger, as the bus would.</summary>
    /// <param name="ledger">The ledger.</param>
    /// <param name="event">The event, such as <c>CaseOpened</c>.</param>
    /// <param name="permissions">The agreement in force.</param>
    /// <param name="cancel">Cancels.</param>
    public static Task<Outcome> Record(ServiceLedger ledger, IMessage @event, Permissions permissions, CancellationToken cancel) =>
        ledger.Commit(
            new Command
            {
                Participant = "service/custody",
                RequestId = Guid.NewGuid().ToString(),
                Method = @event.Descriptor.FullName,
                Request = @event,
                Bytes = @event.ToByteArray(),
                AgreementVersion = 1,
                StoresRefusal = false,
                Decide = (view, now) =>
                    Cases.Copy(
                        @event,
                        new RuleContext
                        {
                            View = view,
                            Secrets = Secret.OfTests,
                            Caller = new Participant(),
                            Permissions = permissions,
                            Method = "",
                            RequestId = "",
                            Now = now,
                        }
                    ),
            },
            cancel
        );
}
