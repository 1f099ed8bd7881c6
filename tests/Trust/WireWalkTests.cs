using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Ledger.V1;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

public class WireWalkTests
{
    private static string Walk(MessageDescriptorOf type, params byte[] bytes) =>
        string.Join("; ", WireWalk.Walk(type.Descriptor, bytes).Select(f => $"{f.Field}: {f.Description}"));

    public sealed record MessageDescriptorOf(Google.Protobuf.Reflection.MessageDescriptor Descriptor);

    private static readonly MessageDescriptorOf Actor = new(Types.V1.Actor.Descriptor);
    private static readonly MessageDescriptorOf Follow = new(FollowEntriesRequest.Descriptor);
    private static readonly MessageDescriptorOf ZonedTime = new(Types.V1.ZonedTime.Descriptor);
    private static readonly MessageDescriptorOf Answer = new(Ministries.Ledger.V1.Answer.Descriptor);

    [Fact]
    public void Whatever_a_protobuf_library_writes_of_known_fields_passes()
    {
        var agreement = StandardAgreement.Read();
        Assert.Empty(WireWalk.Walk(Agreement.Descriptor, agreement.ToByteArray()));
        var events = new ListEventsRequest
        {
            After =
            {
                new EventCursor { Type = "t", Sequence = 3 },
            },
            PageSize = 1,
        };
        Assert.Empty(WireWalk.Walk(ListEventsRequest.Descriptor, events.ToByteArray()));
    }

    [Fact]
    public void Explicit_default_values_and_any_field_order_pass() => Assert.Equal("", Walk(Follow, 0x18, 0, 0x12, 0, 0x08, 0));

    [Fact]
    public void An_unknown_field_is_named_by_its_number() =>
        Assert.Equal("#99: there is no field of this number", Walk(Actor, 0x98, 0x06, 1));

    [Fact]
    public void An_unknown_field_of_a_nested_message_is_named_with_its_path() =>
        Assert.Equal("time.#9: there is no field of this number", Walk(ZonedTime, 0x0a, 2, 0x48, 1));

    [Fact]
    public void A_singular_field_given_twice_is_refused() =>
        Assert.Equal("office: the field is given more than once", Walk(Actor, 0x0a, 1, 65, 0x0a, 1, 66));

    [Fact]
    public void A_wrong_wire_type_is_refused() =>
        Assert.Equal("office: the bytes are of another wire type than the field's", Walk(Actor, 0x08, 1));

    [Fact]
    public void A_second_member_of_a_choice_is_refused() =>
        Assert.Equal("refusal: response of the same choice is given too", Walk(Answer, 0x0a, 0, 0x12, 0));

    [Fact]
    public void Text_that_is_not_UTF_8_is_refused() => Assert.Equal("office: the text is not UTF-8", Walk(Actor, 0x0a, 2, 0xc3, 0x28));

    [Theory]
    [InlineData(new byte[] { 0x0a })]
    [InlineData(new byte[] { 0x0a, 5, 65 })]
    [InlineData(new byte[] { 0x0b, 0x0c })]
    [InlineData(new byte[] { 0x00, 1 })]
    [InlineData(new byte[] { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 })]
    [InlineData(new byte[] { 0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 })]
    public void Bytes_that_break_off_or_hold_no_field_are_refused(byte[] bytes) =>
        Assert.NotEmpty(WireWalk.Walk(Types.V1.Actor.Descriptor, bytes));

    [Theory]
    [InlineData("until_now", new byte[] { 0x18, 2 })]
    // 2^32: a reader that cuts it to 32 bits first has false.
    [InlineData("until_now", new byte[] { 0x18, 0x80, 0x80, 0x80, 0x80, 0x10 })]
    public void A_truth_value_is_0_or_1(string field, byte[] bytes) =>
        Assert.Equal($"{field}: the number is none of the field's type", Walk(Follow, bytes));

    [Theory]
    [InlineData(new byte[] { 0x10, 0xff, 0xff, 0xff, 0xff, 0x07 }, true)]
    [InlineData(new byte[] { 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, true)]
    [InlineData(new byte[] { 0x10, 0x80, 0x80, 0x80, 0x80, 0x08 }, false)]
    [InlineData(new byte[] { 0x10, 0x81, 0x80, 0x80, 0x80, 0x10 }, false)]
    public void A_number_of_32_bits_has_no_more(byte[] bytes, bool passes) =>
        Assert.Equal(
            passes ? "" : "page_size: the number is none of the field's type",
            Walk(new MessageDescriptorOf(ListEventsRequest.Descriptor), bytes)
        );

    [Theory]
    [InlineData(new byte[] { 0x2a, 2, 1, 2 }, true)]
    [InlineData(new byte[] { 0x28, 0xff, 0xff, 0xff, 0xff, 0x0f }, true)]
    [InlineData(new byte[] { 0x2a, 6, 1, 0x80, 0x80, 0x80, 0x80, 0x10 }, false)]
    [InlineData(new byte[] { 0x28, 0x80, 0x80, 0x80, 0x80, 0x10 }, false)]
    public void So_it_is_with_each_element_however_it_stands(byte[] bytes, bool passes) =>
        Assert.Equal(
            passes ? "" : "reservations: the number is none of the field's type",
            Walk(new MessageDescriptorOf(Types.V1.State.Descriptor), bytes)
        );

    [Fact]
    public void A_value_of_a_choice_of_names_is_a_number_of_32_bits()
    {
        var part = new MessageDescriptorOf(EntryPart.Descriptor);
        Assert.Equal("", Walk(part, 0x08, 1));
        Assert.Equal("kind: the number is none of the field's type", Walk(part, 0x08, 0x81, 0x80, 0x80, 0x80, 0x10));
    }

    [Theory]
    [InlineData(new byte[] { 0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 }, true)]
    [InlineData(new byte[] { 0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02 }, false)]
    public void No_number_has_more_than_64_bits(byte[] bytes, bool passes) => Assert.Equal(passes, Walk(Follow, bytes).Length == 0);

    [Fact]
    public void Faults_are_bounded_however_many_there_are()
    {
        var bytes = Enumerable.Repeat(new byte[] { 0x98, 0x06, 1 }, 10_000).SelectMany(b => b).ToArray();
        Assert.Equal(WireWalk.MostFaults, WireWalk.Walk(Types.V1.Actor.Descriptor, bytes).Count);
    }

    [Fact]
    public void Nesting_is_bounded()
    {
        var value = new Value { BoolValue = true };
        for (var i = 0; i < 40; i++)
            value = Value.ForList(value);
        Assert.Contains(WireWalk.Walk(Value.Descriptor, value.ToByteArray()), f => f.Description.Contains("nested deeper"));
    }
}
