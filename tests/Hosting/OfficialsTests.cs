using Google.Protobuf;
using Google.Protobuf.Reflection;
using Ministries.CallLog.V1;
using Ministries.Contracts;
using Ministries.Custody.V1;
using Ministries.Trust;
using Ministries.Types.V1;

namespace Ministries.Hosting.Tests;

/// <summary>Who may be named in a request: whom the agreement lists; and the official who acts must be the caller's.</summary>
public sealed class OfficialsTests
{
    private static readonly Permissions Permissions = new(Agreement());

    private static Agreement Agreement()
    {
        var agreement = StandardAgreement.Read();
        agreement
            .Participants.Single(p => p.Id == "kr/mfa")
            .SigningKeys.Add(
                new SigningKey
                {
                    Id = "kr/mfa/approvals-1",
                    Use = SigningKeyUse.Approvals,
                    Official = "kr-mfa-official-1",
                }
            );
        return agreement;
    }

    private static string[] FaultsOf(IMessage request) =>
        [.. Officials.Check(request, Permissions, Permissions.Participant("kr/mfa")!).Select(f => f.Field)];

    [Theory]
    [InlineData("o-1", true)]
    [InlineData("kr-mfa-official-1", true)]
    // Of another participant.
    [InlineData("physician-7", false)]
    [InlineData("RI-CHONG-SU", false)]
    [InlineData("O-1", false)]
    public void The_official_who_acts_must_be_listed_for_the_caller(string code, bool listed) =>
        Assert.Equal(
            listed ? [] : ["actor.official"],
            FaultsOf(
                new OpenCaseRequest
                {
                    Actor = new Actor
                    {
                        Office = "desk",
                        Official = code,
                        Authority = "order-1",
                    },
                }
            )
        );

    [Theory]
    [InlineData("physician-7", true)]
    [InlineData("interpreter-3", true)]
    [InlineData("RI-CHONG-SU", false)]
    public void Anybody_else_who_is_named_must_be_listed_for_some_participant(string code, bool listed)
    {
        Assert.Equal(listed ? [] : ["physician"], FaultsOf(new RecordFitnessRequest { Physician = code }));
        Assert.Equal(
            listed ? [] : ["account.attendees[1].official"],
            FaultsOf(
                new LogCallRequest
                {
                    Account = new Account
                    {
                        Attendees =
                        {
                            new Attendee { Office = "minister" },
                            new Attendee { Official = code },
                        },
                    },
                }
            )
        );
    }

    [Fact]
    public void Every_field_that_holds_a_persons_code_is_declared_as_one()
    {
        string[] people = ["official", "interpreter", "physician", "translator"];
        foreach (var field in Methods.All.Select(m => m.InputType).Distinct().SelectMany(t => FieldsBelow(t, [])))
        {
            var isOfficial = StringForms.MeaningOf(field) == Meaning.Official;
            // The official of an approval is the one of the key that signed it.
            if (people.Contains(field.Name) && field.ContainingType != Approval.Descriptor)
                Assert.True(isOfficial, field.FullName);
            // The check looks at single fields, in messages and lists of them.
            Assert.False(isOfficial && (field.IsRepeated || field.ContainingType.GetOptions()?.MapEntry == true), field.FullName);
        }
    }

    private static IEnumerable<FieldDescriptor> FieldsBelow(MessageDescriptor type, HashSet<MessageDescriptor> seen) =>
        !seen.Add(type)
            ? []
            : type
                .Fields.InFieldNumberOrder()
                .SelectMany(f =>
                {
                    Assert.False(
                        f.IsMap && f.MessageType.FindFieldByNumber(2).FieldType == FieldType.Message,
                        $"{f.FullName}: no check looks into it"
                    );
                    return f.FieldType == FieldType.Message ? FieldsBelow(f.MessageType, seen) : [f];
                });
}
