using Google.Protobuf.Reflection;
using Ministries.Types.V1;

namespace Ministries.Contracts.Tests;

/// <summary>D16: what a ministry writes about a person in its own words is sealed before it leaves the ministry. So no request has a field
/// in clear that takes words, and each that takes a code says here why the code is about nobody.</summary>
public class FreeTextTests
{
    /// <summary>The fields that take letters and digits of the sender's choice (the form <c>code</c>). Whoever adds one says why it cannot
    /// be about a person; what can is sealed (<see cref="OptionsExtensions.Seals"/>).</summary>
    private static readonly Dictionary<string, string> Codes = new()
    {
        ["calllog.v1.Attendee.office"] = "an office of a ministry",
        ["calllog.v1.StatedPosition.basis"] = "the legal ground of a position, such as an article",
        ["consular.v1.ConfirmHandoverRequest.handover_reference"] = "the number of a hand-over, which both sides give alike",
        ["consular.v1.ConfirmReturnRequest.handover_reference"] = "the number of a return, which both sides give alike",
        ["consular.v1.DecideAccessRequest.denial_reason"] = "a code that the parties agreed on, of imperative military necessity (D17)",
        ["consular.v1.DecideAccessRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.DecideTransferRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.GiveAssuranceRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.NotifyPlaceVisitRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.NotifyPlaceVisitRequest.place"] =
            "a pseudonym of a place, which the caller chooses and keeps; no person is named with it",
        ["consular.v1.NotifyVisitRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.ReportTreatmentFailureRequest.articles"] = "numbers of articles of the Convention",
        ["consular.v1.RequestAccessRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.RequestReturnRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.ResumeTransferRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.ScheduleHandoverRequest.handover_reference"] = "the number of a hand-over, which both sides give alike",
        ["consular.v1.SubmitTransferRequestRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.WithdrawReturnRequest.note_verbale"] = "the number of a note between ministries",
        ["consular.v1.WithdrawTransferRequestRequest.note_verbale"] = "the number of a note between ministries",
        ["custody.v1.CorrectRecordRequest.reason"] = "a code that the parties agreed on; the words are sealed in `explanation`",
        ["custody.v1.NotifyBureauRequest.disclosure_reason"] = "a code that the parties agreed on, of the release of data (D15)",
        ["custody.v1.OfficialKey.key_id"] = "the id of a key in the agreement",
        ["custody.v1.RecordClaimRequest.instrument"] = "the legal instrument on which a claim rests",
        ["custody.v1.RecordProceedingsRequest.reason"] =
            "a code that the parties agreed on, of the delay by proceedings; the charge is sealed",
        ["custody.v1.Release.reason"] = "a code that the parties agreed on, of the release of data (D15)",
        ["ledger.v1.EventCursor.type"] = "the name of an event's type",
        ["ledger.v1.ShareSealedRequest.key_id"] = "the id of a key in the agreement",
        ["ledger.v1.ShareSealedRequest.legal_basis"] = "a code that the parties agreed on, of the article that allows it",
        ["operations.v1.ReplayDeadLetterRequest.id"] = "the id of a message, as the service gave it",
        ["type.v1.Actor.authority"] = "the number of the instrument that authorises an official",
        ["type.v1.Actor.office"] = "an office of a ministry",
        ["type.v1.Approval.key_id"] = "the id of a key in the agreement",
        ["type.v1.Approval.office"] = "an office of a ministry",
        ["type.v1.Approval.official"] = "the code of an official who holds a key for approvals in the agreement",
        ["type.v1.Classification.national_marking"] = "a code of the sender's national rules for markings",
        ["type.v1.Sealed.scheme"] = "the name of the scheme, one value alone",
        ["type.v1.Sealed.withheld"] = "set by the services; a request that has it is refused",
    };

    private static readonly FieldDescriptor[] Clear = [.. StringsInClear().DistinctBy(f => f.FullName)];

    [Fact]
    public void No_request_has_a_field_in_clear_that_takes_words()
    {
        Assert.True(Clear.Length > 100, $"only {Clear.Length} fields were found");
        Assert.Empty(Clear.Where(f => StringForms.Of(f) is null || StringForms.Of(f) == StringForms.Text).Select(f => f.FullName));
    }

    [Fact]
    public void Every_code_of_a_request_is_listed_with_the_reason_why_it_is_about_nobody()
    {
        var found = Clear.Where(f => StringForms.Of(f) == StringForms.Code).Select(f => f.FullName["ministries.".Length..]);
        Assert.Equal(Codes.Keys.Order(StringComparer.Ordinal), found.Order(StringComparer.Ordinal));
        Assert.All(Codes.Values, Assert.NotEmpty);
    }

    /// <summary>What the two above would find, they would find anywhere in a request.</summary>
    [Fact]
    public void What_is_written_in_words_is_inside_what_is_sealed()
    {
        var words = SealingTests.Inside.SelectMany(SealingTests.Reached).SelectMany(m => m.Fields.InDeclarationOrder());
        Assert.Contains(words, f => StringForms.Of(f) == StringForms.Text && f.FullName == "ministries.type.v1.Text.text");
        Assert.DoesNotContain(Clear, f => f.ContainingType.FullName == Text.Descriptor.FullName);
    }

    private static IEnumerable<FieldDescriptor> StringsInClear() =>
        from method in Descriptors
            .Files.Where(f => f.Package.StartsWith("ministries.", StringComparison.Ordinal))
            .SelectMany(f => f.Services)
            .SelectMany(s => s.Methods)
        from type in SealingTests.Reached(method.InputType)
        where type.File.Package.StartsWith("ministries.", StringComparison.Ordinal)
        from field in type.Fields.InDeclarationOrder()
        where field.FieldType == FieldType.String
        select field;
}
